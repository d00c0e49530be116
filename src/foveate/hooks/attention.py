"""A few rows of one layer's attention, computed from its projections, so that the model keeps its fast kernels."""

from typing import Any

import torch
from torch import Tensor

from foveate.errors import ModelError

# Stacks whose attention is what `Keys` computes: q_proj and k_proj, a norm per head where there is one, rotation by
# halves, a softmax over everything that came before.
KNOWN = ("llama", "mistral", "qwen2", "qwen3", "qwen2_5_vl_text", "qwen3_vl_text")


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


class Keys:
    """The keys of one decoder layer for a batch, and the rows of attention that single queries make over them."""

    def __init__(self, layer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor], real: Tensor) -> None:
        """`hidden` (b, S, d) is the layer's input, `rotary` its cos and sin (b, S, d_h), `real` (b, S) no padding."""
        self.attention, self.rotary, self.real = layer.self_attn, rotary, real
        self.normed = layer.input_layernorm(hidden)
        self.keys = self._project("k", self.normed, *rotary)  # (b, key heads, S, d_h)

    def rows(self, row: int, queries: Tensor) -> Tensor:
        """The attention of the slots `queries` (r,) of one row of the batch: (heads, r, S), in float32."""
        cos, sin = (part[row, queries] for part in self.rotary)
        heads = self._project("q", self.normed[row, queries], cos, sin)  # (heads, r, d_h)
        keys = self.keys[row].repeat_interleave(heads.shape[0] // self.keys.shape[1], dim=0)
        logits = (heads.float() @ keys.float().transpose(1, 2)) * self.attention.scaling
        slots = torch.arange(keys.shape[1], device=queries.device)
        visible = self.real[row] & (slots <= queries[:, None])  # (r, S)
        weights: Tensor = logits.masked_fill(~visible, -torch.inf).softmax(-1)
        return weights

    def _project(self, which: str, normed: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Project (..., S, d), normalise a head at a time where the stack does, and rotate: (..., heads, S, d_h)."""
        projected = getattr(self.attention, f"{which}_proj")(normed).unflatten(-1, (-1, self.attention.head_dim))
        norm = getattr(self.attention, f"{which}_norm", None)
        heads = (projected if norm is None else norm(projected)).transpose(-2, -3)
        left, right = heads.chunk(2, dim=-1)
        turned = torch.cat([-right, left], dim=-1)
        rotated: Tensor = heads * cos.unsqueeze(-3) + turned * sin.unsqueeze(-3)
        return rotated
