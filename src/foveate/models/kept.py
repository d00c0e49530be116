"""What an encoder's output holds after pruning: the kept tokens, row by row of the batch."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.models.visual_input import VisualInput


class TokenList(list[Tensor]):
    """The kept tokens, one tensor (k, d) a row of the batch.

    Some models join a list of images with `torch.cat`, others expect one tensor and call `.to(...)` on it: asked for
    anything that a list has not, this one answers as the joined tensor (N, d) does.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cat(list(self)), name)


@functools.cache
def _kept_type(kind: type) -> type:
    """The output class of an encoder whose pooled tokens stay a `TokenList`, also after beams have repeated them.

    Beams repeat the pooled tokens alone, entry by entry. Where a model reads a kept last hidden state instead, or
    (layer, features) pairs, these are repeated along.
    """

    def set_attribute(self: Any, name: str, value: Any) -> None:
        setter: Any = kind.__setattr__
        if name == "pooler_output" and type(value) is list:
            value = TokenList(value)
            state, pairs = (getattr(self, field, None) for field in ("last_hidden_state", "deepstack_features"))
            old = self.pooler_output if isinstance(self.pooler_output, list) else []
            at = {id(entry): n for n, entry in enumerate(old)}
            order = [at[id(new)] for new in value if id(new) in at]
            if order and isinstance(state, list):
                setter(self, "last_hidden_state", TokenList(state[n] for n in order))
            if order and pairs and isinstance(pairs[0], tuple):
                again = [(layer, [features[n] for n in order]) for layer, features in pairs]
                setter(self, "deepstack_features", again)
        setter(self, name, value)

    return type(f"Kept{kind.__name__}", (kind,), {"__setattr__": set_attribute, "__doc__": kind.__doc__})


def kept_output(output: Any, **fields: Any) -> Any:
    """An output of the encoder's own class that holds these fields and no other."""
    kind: Any = type(output)
    return (kind if kind.__name__.startswith("Kept") else _kept_type(kind))(**fields)


def keep_tokens(features: Sequence[Tensor], items: Sequence[VisualInput]) -> list[Tensor]:
    """What `items` keep of their `features`, (k, d) each, those of one row of the batch joined.

    Beam search repeats these entry by entry. Where a row has several, older transformers (5.18) gets their order wrong.
    """
    joined: dict[int, list[Tensor]] = {}
    for feature, item in zip(features, items, strict=True):
        joined.setdefault(item.row, []).append(keep_values(feature, item))
    return [torch.cat(parts) for parts in joined.values()]


def keep_values(feature: Tensor, item: VisualInput) -> Tensor:
    """The kept tokens of a feature (n, d), or the weighted means (k, n) @ (n, d), computed in float32."""
    if item.merge_weights is None:
        return feature[item.kept.to(feature.device)]
    with torch.autocast(feature.device.type, enabled=False):
        return (item.merge_weights.to(feature.device) @ feature.float()).to(feature.dtype)
