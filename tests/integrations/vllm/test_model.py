"""The parts of the plug-in that need vLLM's names."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from foveate.errors import FoveateWarning, ModelError
from foveate.integrations.vllm import engine
from foveate.integrations.vllm.settings import ImagePlan

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

from foveate.integrations.vllm import model


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_offsets_survive_half_precision(dtype):
    offsets = torch.stack((torch.arange(2**16), torch.arange(2**16).flip(0), torch.zeros(2**16, dtype=torch.long)))
    rows = model.append_offsets(torch.randn(2**16, 2).to(dtype), offsets)
    assert rows.dtype == dtype
    assert torch.equal(model.read_offsets(rows), offsets)


def test_steps_of_the_encoder():
    assert list(model.split_into_steps([4, 4, 9, 1, 1], 8)) == [(0, 2), (2, 3), (3, 5)]
    assert list(model.split_into_steps([30], 8)) == [(0, 1)]
    assert list(model.split_into_steps([], 8)) == []


def feature(offset, kept, total, positions="original"):
    """An image in a prompt."""
    from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange

    packed = SimpleNamespace(data=ImagePlan(kept, total, "grid", positions, ()).pack())
    span = PlaceholderRange(offset=offset, length=kept)
    return MultiModalFeatureSpec(data={"foveate": packed}, modality="image", identifier=str(offset), mm_position=span)


def test_text_goes_on_after_the_whole_image():
    pruned = object.__new__(model.PrunedRopeModel)
    tokens = [1, 2, 9, 9, 3, 9, 4, 5]
    positions, delta = pruned.get_mrope_input_positions(tokens, [feature(5, 1, 4), feature(2, 2, 10)])
    assert positions.tolist() == [[0, 1, 2, 2, 12, 13, 17, 18]] * 3
    assert len(tokens) + delta == 19
    positions, delta = pruned.get_mrope_input_positions(
        tokens, [feature(2, 2, 10, "compact"), feature(5, 1, 4, "compact")]
    )
    assert positions.tolist() == [[0, 1, 2, 2, 4, 5, 6, 7]] * 3
    assert delta == 0
    positions, delta = pruned.get_mrope_input_positions([1, 2, 3], [])
    assert (positions.tolist(), delta) == ([[0, 1, 2]] * 3, 0)


def test_this_version():
    engine.check_version()


def test_another_version(monkeypatch):
    monkeypatch.setattr(engine, "read_version", lambda: "0.99.1")
    with pytest.warns(FoveateWarning, match=r"tested with vLLM 0.32 or later, below 0.33, and this is 0.99.1"):
        engine.check_version()


@pytest.mark.parametrize("missing", ["module", "name", "method"])
def test_a_name_is_missing(monkeypatch, missing):
    if missing == "method":
        monkeypatch.setattr(engine, "PROCESSOR_METHODS", ("no_such_step",))
    else:
        where = "vllm.nowhere" if missing == "module" else "vllm.multimodal"
        monkeypatch.setattr(engine, "REQUIRED_NAMES", {where: ("NO_SUCH_NAME",)})
    with pytest.raises(ModelError, match=r"which foveate needs: install vLLM 0\.32 or later"):
        engine.check_version()
