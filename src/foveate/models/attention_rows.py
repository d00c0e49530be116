"""The attention that one token of every row pays in one layer of the decoder: a forward call that ends in that layer.

The layer's own code computes queries and keys, rotations, norms and scales included; the weights of one query a row are
made from them, so the model keeps its fast kernels and no (L, L) matrix is made. Nothing on the model changes.
"""

import copy
import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from foveate.errors import ModelError

NAME = "foveate_rows"  # of our function among the attention functions of transformers
READER = "foveate_reader"  # attribute of a copied attention module: what its function is to read


class Weights(Exception):
    """The weights (b, heads, L), on their way out of the forward call."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights


def find_attentions(model: Any) -> list[Any]:
    """The attention layers of the decoder in which tokens attend to the tokens before them, in their order."""
    text = model.config.get_text_config()
    layers = [
        module
        for module in model.modules()
        if getattr(module, "config", None) is text
        and getattr(module, "layer_idx", None) is not None
        and "Attention" in type(module).__name__
    ]
    return sorted(layers, key=lambda module: module.layer_idx)


def read_attention(model: Any, inputs: Mapping[str, Any], attention: Any, columns: Tensor) -> Tensor:
    """The attention of one token of every row, in one layer.

    Args:
        model: A model with a causal decoder.
        inputs: What its `forward` takes, without labels and without a cache.
        attention: The layer, one of `find_attentions(model)`.
        columns: (b,) the column of the token of every row.

    Returns:
        (b, heads, L) float32 weights; 0 for padding and for what stands behind the token.

    Raises:
        ModelError: The layer did not run, as torch.compile had compiled it before.
    """
    return end_in_layer(model, inputs, attention, (NAME, _attend), (columns, inputs["attention_mask"]))


def end_in_layer(
    model: Any, inputs: Mapping[str, Any], attention: Any, function: tuple[str, Callable[..., Any]], reader: Any
) -> Tensor:
    """Run `forward` up to one attention layer, where `function` raises `Weights`: these are returned.

    Args:
        model: A model of transformers.
        inputs: What its `forward` takes, without labels and without a cache.
        attention: The layer.
        function: The name of an attention function of transformers, and the function.
        reader: What the function reads as the attribute `READER` of the module.

    Raises:
        ModelError: The layer did not run, as torch.compile had compiled it before.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(*function)
    thread = threading.get_ident()

    def read(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if threading.get_ident() != thread:
            return
        offload = getattr(module, "_hf_hook", None)  # accelerate's, which brings the weights
        if offload is not None:
            args, kwargs = offload.pre_forward(module, *args, **kwargs)
        twin = copy.copy(module)
        twin.config = copy.copy(module.config)
        twin.config._attn_implementation_internal = function[0]
        setattr(twin, READER, reader)
        try:
            type(module).forward(twin, *args, **kwargs)
        finally:
            if offload is not None:
                offload.post_forward(module, None)

    hook = attention.register_forward_pre_hook(torch.compiler.disable(read), with_kwargs=True)
    try:
        with torch.no_grad():
            model.forward(**inputs, use_cache=False)  # not the call: hooks on it are for calls of the user
    except Weights as end:
        return end.weights
    finally:
        hook.remove()
    raise ModelError(
        "The decoder's layers ran as torch.compile had compiled them before, without the hook that reads their "
        "attention: call torch.compiler.reset()."
    )


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, scaling: float | None = None,
    softcap: float | None = None, sliding_window: int | None = None, position_bias: Tensor | None = None,
    indices: Tensor | None = None, s_aux: Tensor | None = None, sinks: Tensor | None = None, **_: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """An attention function of transformers that ends the forward call with the weights of one query a row."""
    del value
    columns, mask = getattr(module, READER)
    columns = columns.to(key.device)
    rows, places = torch.arange(len(query), device=key.device), torch.arange(key.shape[2], device=key.device)
    heads = query[rows, :, columns].unflatten(1, (key.shape[1], -1)).float()  # (b, key heads, group, d)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    logits = (heads @ key.float().transpose(2, 3)).flatten(1, 2) * scale  # (b, heads, L)
    if softcap:
        logits = softcap * (logits / softcap).tanh()
    if position_bias is not None:
        logits = logits + position_bias.expand(len(query), -1, -1, -1)[rows, :, columns]
    visible = (mask.to(key.device) != 0) & (places <= columns[:, None])  # (b, L)
    if sliding_window:
        visible &= places > columns[:, None] - sliding_window
    if indices is not None:  # of sparse attention: the keys that each token attends to
        visible &= torch.zeros_like(visible).scatter(1, indices[rows, columns].long(), True)
    visible = visible[:, None].expand_as(logits)
    if isinstance(attention_mask, Tensor) and attention_mask.ndim == 4:
        own = attention_mask.expand(len(query), -1, -1, -1)[rows, :, columns, : key.shape[2]]
        visible, logits = (visible & own, logits) if own.dtype == torch.bool else (visible, logits + own)
    logits = logits.masked_fill(~visible, -torch.inf)
    if s_aux is not None:  # a weight that no token gets
        sinks = s_aux.reshape(1, -1, 1, 1).expand(len(query), -1, key.shape[2], -1)
    if sinks is not None:
        logits = torch.cat([logits, sinks[rows, :, columns].float()], -1)
    raise Weights(logits.softmax(-1)[..., : key.shape[2]])
