"""One step of decoding: which visual tokens the newest token attends to from the anchor layer on."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.hooks.attention import make_step_logits
from foveate.method.budget import to_budget
from foveate.method.checks import is_int
from foveate.method.in_steps import StepMethod


class StepCall:
    """A forward call of one new token a row behind a whole prompt with images."""

    def __init__(self, method: StepMethod, keep: int | float, anchor: int, visual: Tensor, cache: Any) -> None:
        """`visual` (b, S) says which columns of the `cache` hold visual tokens."""
        self.method, self.keep, self.anchor, self.visual, self.cache = method, keep, anchor, visual, cache
        self.stays: Tensor | None = None  # (b, S + 1), what the layers from the anchor on attend to
        self.kept: tuple[Tensor, ...] = ()
        self.share, self.seconds = 1.0, 0.0

    def before(self, number: int, layer: Any, hidden: Tensor, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword arguments of layer `number` for its input `hidden` (b, 1, d), with this step's mask."""
        if number == self.anchor:
            started = time.perf_counter()
            with torch.no_grad():
                self.stays = self._select(layer, hidden, kwargs)
            self.seconds = time.perf_counter() - started
        if self.share == 1.0 or self.stays is None:
            return dict(kwargs)
        return {**kwargs, "attention_mask": hide_tokens(kwargs.get("attention_mask"), self.stays, layer, hidden)}

    def _select(self, layer: Any, hidden: Tensor, kwargs: Mapping[str, Any]) -> Tensor:
        logits = make_step_logits(layer, hidden, kwargs["position_embeddings"], read_keys(self.cache, self.anchor))
        seen = read_seen(kwargs.get("attention_mask"), logits)
        visual = torch.nn.functional.pad(self.visual.to(seen.device), (0, 1)) & seen
        stays, kept = seen & ~visual, []
        for row, own in enumerate(visual):
            columns, here = own.nonzero().squeeze(1), seen[row]
            chosen = columns[:0]
            if len(columns):
                chosen = self.method.select(logits[row][:, here], own[here], self.count_most(len(columns)))
            stays[row, columns[chosen]] = True
            kept.append(chosen)
        self.kept, total = tuple(kept), int(visual.sum())
        self.share = sum(map(len, kept)) / total if total else 1.0
        return stays

    def count_most(self, n: int) -> int:
        """How many of `n` visual tokens may be selected; the call with the images warned of more than `n`."""
        return to_budget(min(self.keep, n) if is_int(self.keep) else self.keep, n)


def read_keys(cache: Any, layer: int) -> Tensor:
    """(b, key heads, S, d_h) the keys that a cache holds of a layer. Raises `InputError` for one that hides them."""
    layers = getattr(cache, "layers", ())
    keys = getattr(layers[layer], "keys", None) if layer < len(layers) else None
    is_whole = isinstance(keys, Tensor) and keys.is_floating_point() and keys.shape[-2] == cache.get_seq_length(layer)
    if not isinstance(keys, Tensor) or not is_whole or getattr(cache, "offloading", False):
        raise InputError(
            f"The keys of a {type(cache).__name__} cannot be read as they are (static, quantized or offloaded caches): "
            "use the dynamic cache."
        )
    return keys


def read_seen(mask: Tensor | None, logits: Tensor) -> Tensor:
    """(b, s) bool: which tokens a layer's own mask lets the newest token see; `logits` are (b, heads, s)."""
    shape = (len(logits), logits.shape[-1])
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=logits.device)
    seen = mask if mask.dtype == torch.bool else mask >= 0
    return seen[:, 0, 0].to(logits.device).expand(shape)


def hide_tokens(mask: Tensor | None, stays: Tensor, layer: Any, hidden: Tensor) -> Tensor:
    """A layer's own mask (b, 1, 1, s) without the tokens that do not stay (b, s), in the form that its kernel takes."""
    here = stays[:, None, None].to(hidden.device)
    if mask is not None and mask.dtype == torch.bool:
        return mask & here
    if mask is None and layer.self_attn.config._attn_implementation == "sdpa":
        return here
    bias = hidden.new_zeros(here.shape) if mask is None else mask
    return bias.masked_fill(~here, torch.finfo(bias.dtype).min)
