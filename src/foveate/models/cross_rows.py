"""The attention that words pay across to the image in one cross-attention layer: a forward call that ends there.

Like `attention_rows`: the layer's own code computes queries and keys. Weights of a few words exist at a time.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from foveate.models.attention_rows import READER, Weights, end_in_layer

NAME = "foveate_cross_rows"  # of our function among the attention functions of transformers
BLOCK = 16  # words whose weights exist at a time


def read_cross_attention(model: Any, inputs: Mapping[str, Any], attention: Any, words: Tensor) -> Tensor:
    """The attention of some words to what lies beside the sequence, in one layer.

    Args:
        model: A model with cross-attention layers.
        inputs: What its `forward` takes, without labels and without a cache.
        attention: The attention module of the layer.
        words: (b, L) bool, the words to read; each must see something.

    Returns:
        (b, heads, n) float32 sums over these words of their weights on the n states.

    Raises:
        ModelError: The layer did not run, as torch.compile had compiled it before.
    """
    return end_in_layer(model, inputs, attention, (NAME, _attend), words)


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """An attention function of transformers that ends the forward call with the summed weights."""
    del value
    words: Tensor = getattr(module, READER).to(query.device)
    keys = key.float().transpose(2, 3)[:, :, None]  # (b, key heads, 1, d, n)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    sums = keys.new_zeros(len(query), query.shape[1], key.shape[2])
    for block in torch.arange(query.shape[2], device=query.device).split(BLOCK):
        part = query[:, :, block].float().unflatten(1, (key.shape[1], -1))  # (b, key heads, group, words, d)
        logits = (part @ keys).flatten(1, 2) * scale  # (b, heads, words, n)
        if attention_mask is not None:
            mask = attention_mask.as_subclass(Tensor)[:, :, block, : key.shape[2]]
            logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
        sums += logits.softmax(-1).masked_fill(~words[:, None, block, None], 0).sum(2)
    raise Weights(sums)
