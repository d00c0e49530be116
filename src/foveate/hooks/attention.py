"""A few rows of one layer's attention, computed from its projections, so that the model keeps its fast kernels."""

from typing import Any

import torch
from torch import Tensor

from foveate.errors import ModelError

# Stacks whose attention is what `Keys` computes: q_proj and k_proj, a norm per head where there is one, rotation by
# halves, a softmax over everything that came before.
KNOWN = ("llama", "mistral", "qwen2", "qwen3", "qwen2_5_vl_text", "qwen3_vl_text")

MASKED = ("sdpa", "eager")  # kernels that take any mask (b, 1, q, s)


def check_stack(config: Any) -> None:
    """Raise `ModelError` unless the text model of this `config` is one whose attention `Keys` computes."""
    text = config.get_text_config()
    if text.model_type not in KNOWN:
        raise ModelError(
            f"In-decoder methods do not know the attention of {text.model_type!r} (known: {', '.join(KNOWN)}): "
            "use a method that prunes the input, such as foveate."
        )
    sliding = [kind for kind in getattr(text, "layer_types", None) or () if kind != "full_attention"]
    if sliding or (text.model_type == "mistral" and text.sliding_window is not None):
        raise ModelError(
            "This text model has layers of sliding-window attention, for which dropped tokens would shift the window: "
            "use a method that prunes the input, such as foveate."
        )


def check_kernel(config: Any, name: str) -> None:
    """Raise `ModelError` unless the attention of this text `config` takes a mask of its own for every step."""
    kernel = config._attn_implementation
    if kernel not in MASKED:
        raise ModelError(
            f"{name} masks other tokens at every step, which the attention {kernel!r} does not take: "
            'load the model with attn_implementation="sdpa".'
        )


class Keys:
    """The keys of one decoder layer for a batch, and the rows of attention that single queries make over them."""

    def __init__(self, layer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor], real: Tensor) -> None:
        """`hidden` (b, S, d) is the layer's input, `rotary` its cos and sin (b, S, d_h), `real` (b, S) no padding."""
        self.attention, self.rotary, self.real = layer.self_attn, rotary, real
        self.normed = layer.input_layernorm(hidden)
        self.keys = _project(self.attention, "k", self.normed, *rotary)  # (b, key heads, S, d_h)

    def rows(self, row: int, queries: Tensor) -> Tensor:
        """The attention of the slots `queries` (r,) of one row of the batch: (heads, r, S), in float32."""
        cos, sin = (part[row, queries] for part in self.rotary)
        heads = _project(self.attention, "q", self.normed[row, queries], cos, sin)  # (heads, r, d_h)
        keys = self.keys[row].repeat_interleave(heads.shape[0] // self.keys.shape[1], dim=0)
        logits = (heads.float() @ keys.float().transpose(1, 2)) * self.attention.scaling
        slots = torch.arange(keys.shape[1], device=queries.device)
        visible = self.real[row] & (slots <= queries[:, None])  # (r, S)
        weights: Tensor = logits.masked_fill(~visible, -torch.inf).softmax(-1)
        return weights


def make_step_logits(layer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor], cached: Tensor) -> Tensor:
    """The attention logits of one new token a row, before softmax and mask: (b, heads, S + 1), in float32.

    `hidden` (b, 1, d) is the layer's input, `rotary` its cos and sin (b or 1, 1, d_h), `cached` (b, key heads, S, d_h)
    the layer's keys of what came before.
    """
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    query, own = (_project(attention, which, normed, *rotary) for which in ("q", "k"))  # (b, heads, 1, d_h)
    keys = torch.cat([cached.to(own), own], dim=2).float()
    groups = query.squeeze(2).unflatten(1, (keys.shape[1], -1)).float()  # (b, key heads, heads of each, d_h)
    logits: Tensor = (groups @ keys.transpose(2, 3)).flatten(1, 2) * attention.scaling
    return logits


def _project(attention: Any, which: str, normed: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Project (..., S, d), normalise a head at a time where the stack does, and rotate: (..., heads, S, d_h)."""
    projected = getattr(attention, f"{which}_proj")(normed).unflatten(-1, (-1, attention.head_dim))
    norm = getattr(attention, f"{which}_norm", None)
    heads = (projected if norm is None else norm(projected)).transpose(-2, -3)
    left, right = heads.chunk(2, dim=-1)
    turned = torch.cat([-right, left], dim=-1)
    rotated: Tensor = heads * cos.unsqueeze(-3) + turned * sin.unsqueeze(-3)
    return rotated
