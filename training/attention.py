"""Attention for training on a CPU: scores, softmax and weighted sum, for a few heads at a time, in bfloat16.

The scores of a block stay in the processor's cache; this is several times faster than the fused kernel in bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 1 << 20  # scores per block


class Blocked(torch.autograd.Function):
    """softmax(q k' + mask) v for a `query` (b, h, n, d) that is already scaled; `mask` (b or 1, 1, n, m) or None."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """(b, h, n, d)."""
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        out = torch.empty_like(query)
        for row, heads in _blocks(query, key):
            torch.bmm(_weights(query[row, heads], key[row, heads], mask, row), value[row, heads], out=out[row, heads])
        ctx.save_for_backward(query, key, value)
        ctx.mask = mask
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Recompute the weights block by block."""
        query, key, value = ctx.saved_tensors
        grad = grads[0].contiguous()
        to_query, to_key, to_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for at in _blocks(query, key):
            q, k, v, g = query[at], key[at], value[at], grad[at]
            weights = _weights(q, k, ctx.mask, at[0])
            torch.bmm(weights.transpose(1, 2), g, out=to_value[at])
            scores = torch.ops.aten._softmax_backward_data(torch.bmm(g, v.transpose(1, 2)), weights, -1, weights.dtype)
            torch.bmm(scores, k, out=to_query[at])
            torch.bmm(scores.transpose(1, 2), q, out=to_key[at])
        return to_query, to_key, to_value, None


def _blocks(query: Tensor, key: Tensor) -> list[tuple[int, slice]]:
    count = max(1, BLOCK // (query.shape[2] * key.shape[2]))
    return [(row, slice(h, h + count)) for row in range(len(query)) for h in range(0, query.shape[1], count)]


def _weights(query: Tensor, key: Tensor, mask: Tensor | None, row: int) -> Tensor:
    scores = torch.bmm(query, key.transpose(1, 2))
    if mask is not None:
        scores += mask[row if len(mask) > 1 else 0]
    return scores.softmax(-1)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None = None) -> Tensor:
    """Attend with (b, h, n, d) and an additive mask: in blocks for bfloat16 on a CPU, else by SDPA."""
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotary embeddings may have made them float32
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    out: Tensor = Blocked.apply(query * (scaling or query.shape[-1] ** -0.5), key, value, mask)
    return out


def plain_attention(
    _module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """Attention function of vision encoders: every patch attends to every patch."""
    assert attention_mask is None
    return attention(query, key, value, None, settings.get("scaling")).transpose(1, 2).contiguous(), None


def packed_attention(
    _module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, *, shared: int, **_: Any
) -> tuple[Tensor, None]:
    """Attention function of packed rows: causal in the first `shared` columns, then the rest with the mask."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    causal = attention_mask[:1, :, :shared, :shared]
    first = attention(query[:, :, :shared], key[:, :, :shared], value[:, :, :shared], causal)
    rest = attention(query[:, :, shared:], key, value, attention_mask[:, :, shared:])
    return torch.cat([first, rest], dim=2).transpose(1, 2).contiguous(), None
