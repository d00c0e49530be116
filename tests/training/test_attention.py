import pytest
import torch
from torch.nn import functional as F

from training import attention as attention_module
from training.attention import Blocked, attention


@pytest.mark.parametrize("block", [1, 200, 1 << 20], ids=["a head at a time", "two heads", "all"])
@pytest.mark.parametrize("masked", [False, True])
def test_blocked_attention_is_attention(block, masked, monkeypatch):
    monkeypatch.setattr(attention_module, "BLOCK", block)
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 4, n, 8, dtype=torch.float64, requires_grad=True) for n in (7, 11, 11))
    mask = torch.zeros(2, 1, 7, 11, dtype=torch.float64).masked_fill(torch.rand(2, 1, 7, 11) < 0.3, -1e9)
    mask = mask if masked else None
    towards = torch.randn(2, 4, 7, 8, dtype=torch.float64)
    result = Blocked.apply(query * 8**-0.5, key, value, mask)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert torch.allclose(result, expected)
    inputs = (query, key, value)
    for one, other in zip(
        torch.autograd.grad((result * towards).sum(), inputs),
        torch.autograd.grad((expected * towards).sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(one, other)


def test_half_precision_goes_by_blocks_and_nothing_else_does():
    torch.manual_seed(0)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 3e-2)):
        query, key, value = (torch.randn(1, 2, 9, 8, dtype=dtype, requires_grad=True) for _ in range(3))
        result = attention(query.float(), key, value, None)
        assert result.dtype == dtype
        assert ("Blocked" in type(result.grad_fn).__name__) == (dtype == torch.bfloat16)
        expected = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
        assert (result - expected).abs().max() < tolerance
