"""The data type of products in training."""

import pytest
import torch

from training.precision import choose_precision, orthogonalize_fast


@pytest.mark.parametrize(("amx", "avx", "expected"), [
    (False, False, torch.float32), (True, False, torch.bfloat16), (False, True, torch.bfloat16),
])  # fmt: skip
def test_bfloat16_where_a_processor_has_units_for_it(monkeypatch, amx, avx, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    assert choose_precision("cpu") == expected
    assert choose_precision("cuda") == torch.bfloat16
    with orthogonalize_fast():
        assert torch.ones(2).bfloat16().dtype == expected
    assert torch.ones(2).bfloat16().dtype == torch.bfloat16
