import pytest
import torch

from foveate.method import scale
from foveate.method.selection import Cosines


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_cosines_are_cosines(dtype, monkeypatch):
    monkeypatch.setattr(scale, "BLOCK_BYTES", 700)  # blocks of a few rows, the last one shorter
    rows = (torch.randn(50, 16, generator=torch.Generator().manual_seed(0)) * 30).to(dtype)
    index = torch.tensor([3, 49, 0])
    some = Cosines(rows)
    expected = torch.nn.functional.cosine_similarity(rows.double()[:, None], rows.double()[index][None], dim=2)
    torch.testing.assert_close(some.compute(some.unit(index)), expected.float(), rtol=0, atol=2e-7)
    torch.testing.assert_close(some.unit(index).norm(dim=1), torch.ones(3))
    torch.testing.assert_close(some.length(), torch.ones(50))


def test_zeros_are_like_nothing():
    rows = torch.cat([torch.zeros(2, 4), torch.ones(1, 4), torch.full((1, 4), 1e-30)])
    some = Cosines(rows)
    assert some.compute(some.unit(torch.arange(4)))[:2].tolist() == [[0.0] * 4] * 2
    assert some.length()[:3].tolist() == [0, 0, 1]


def test_rows_are_not_copied_and_not_changed():
    rows = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    before = rows.clone()
    some = Cosines(rows)
    some.compute(some.unit(torch.arange(5)))
    assert some.rows is rows
    assert torch.equal(rows, before)


@pytest.mark.parametrize(
    ("shape", "limit", "sizes"),
    [
        ((10, 4), 64, [4, 4, 2]),
        ((10, 4), 79, [4, 4, 2]),
        ((3, 4), 1, [1, 1, 1]),
        ((8, 1), 16, [4, 4]),
        ((5, 0), 12, [3, 2]),
    ],
)
def test_a_block_is_as_many_rows_as_fit(shape, limit, sizes, monkeypatch):
    monkeypatch.setattr(scale, "BLOCK_BYTES", limit)
    blocks = scale.split_blocks(torch.ones(shape, dtype=torch.float16))
    assert [len(block) for block in blocks] == sizes
