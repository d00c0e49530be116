import pytest
import torch

from foveate.method import select
from foveate.method.selection import cover


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", ["mmtok", "scope"])
def test_a_matrix_that_is_not_stored_gives_the_same_choice(method, monkeypatch):
    for seed in range(10):
        x = randn(20, 16, seed=seed)[torch.arange(300) % 20] + randn(300, 16, seed=seed + 50) / 2
        attention = randn(300, seed=seed).softmax(0)
        settings = {"k": 60, "method": method, "encoder": x, "cls_attention": attention}
        kept = select(x, randn(5, 16, seed=seed), **settings)
        with monkeypatch.context() as patch:
            patch.setattr(cover, "MATRIX_BYTES", 0)
            patch.setattr(cover, "BLOCK", 7)
            assert torch.equal(select(x, randn(5, 16, seed=seed), **settings), kept)
