"""A first look: a few tokens of every item through the first layers, to read where the model looks for the answer.

Where words attend across to the image, all of its tokens are there already, and the words alone go through the layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.models import Family
from foveate.models.attention_rows import find_attentions, read_attention
from foveate.models.cache import NAMES
from foveate.models.sequence import IGNORED_LABEL, find_last_columns
from foveate.models.visual_input import VisualInput
from foveate.pipeline.budget import allocate_budget
from foveate.pipeline.encode import Encoded
from foveate.pipeline.pool import pool_tokens
from foveate.pipeline.select import select_tokens
from foveate.pipeline.settings import PruneSettings
from foveate.pipeline.shorten import shorten_inputs


def glance(
    model: Any, family: Family, inputs: Mapping[str, Any], encoded: Encoded, items: Sequence[VisualInput],
    mask: Tensor, questions: Mapping[int, Tensor], settings: PruneSettings, share: float | None = None,
) -> list[VisualInput]:  # fmt: skip
    """The items with the attention to their tokens, if the method reads any and something is pruned.

    The look is the method's own, but for `share` where that is not None.
    """
    method, look = settings.method, settings.method.first_look
    is_pruned = not settings.is_whole and any(item.modality in settings.modalities for item in items)
    if is_pruned and "cross_attention" in method.needs:
        return _read_across(model, family, inputs, encoded, items, mask)
    if "attention" not in method.needs or not is_pruned:
        return list(items)
    if look is None:
        raise InputError(f"{method.name} needs attention, and has no first_look that says how to read it: define one.")
    keep = float(look.share if share is None else share)
    whole = replace(settings, encode=1.0, max_encoder_memory=None, skip=None, policy=None, recency=None)
    budget = replace(whole, keep=keep, method=look.method, per="image", explain=False)
    seen = select_tokens(items, allocate_budget(items, questions, budget), questions, look.method)
    seen = [pool_tokens(item) for item in seen] if look.pooled else seen
    short, layout = shorten_inputs(model, family, _drop_call(inputs), encoded, seen, mask, "original")
    readers = find_last_columns(layout.cut(mark_prompt(inputs, mask).long(), 0))
    layers = find_attentions(model)
    depth = model.config.get_text_config().num_hidden_layers
    layer = min(layers, key=lambda layer: abs(layer.layer_idx - look.depth * depth))
    weights = read_attention(model, short, layer, readers.clamp(min=0)).mean(1)  # (b, L')
    return [_add_attention(item, weights[item.row], layout.index[item.row], look.spread) for item in seen]


def _read_across(
    model: Any, family: Family, inputs: Mapping[str, Any], encoded: Encoded, items: Sequence[VisualInput], mask: Tensor
) -> list[VisualInput]:
    """The items with the attention (n, heads) to their tokens in the first layer that attends across."""
    whole, _ = shorten_inputs(model, family, _drop_call(inputs), encoded, items, mask, "original")
    across: Any = family  # `check_needs` let only those pass that attend across
    weights = across.read_words(model, inputs, encoded.outputs["image"], whole, mark_prompt(inputs, mask))
    return [
        replace(item, extras={**item.extras, "cross_attention": own}) for item, own in zip(items, weights, strict=True)
    ]


def _drop_call(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The prompt without what only the caller's own call is about."""
    return {name: value for name, value in inputs.items() if name not in (*NAMES, "labels", "logits_to_keep")}


def mark_prompt(inputs: Mapping[str, Any], mask: Tensor) -> Tensor:
    """(b, L): true for the prompt without its answer.

    The answer begins at the last run of labels, or, in a call that wants only the last logits, one behind the first of
    them. Labels of a whole row tell no answer.
    """
    real, columns = mask != 0, torch.arange(mask.shape[1], device=mask.device)
    keep, labels = inputs.get("logits_to_keep", 0), inputs.get("labels")
    if not isinstance(keep, int):
        wanted = columns[keep.to(columns.device) if isinstance(keep, Tensor) else keep]
        real = real & (columns <= wanted.min())
    elif keep > 0:
        real = real & (columns <= mask.shape[1] - keep)
    if labels is None or labels.shape != mask.shape:
        return real
    labelled = (labels.to(mask.device) != IGNORED_LABEL) & real
    starts = labelled & ~torch.nn.functional.pad(labelled, (1, 0))[:, :-1]
    before = real & (columns < find_last_columns(starts.long())[:, None])
    return torch.where(before.any(1, keepdim=True), before, real)


def _add_attention(item: VisualInput, weights: Tensor, index: Tensor, sigma: float) -> VisualInput:
    """The item before selection, with the attention (n,) to its tokens among its extras."""
    kept, columns = item.kept, item.columns.to(index.device)
    places = (index == columns[kept.to(index.device), None]).int().argmax(1)
    seen = weights[places.to(weights.device)]
    if item.pooled_into is None:
        attention = torch.zeros(item.total, device=weights.device)
        attention[kept.to(weights.device)] = seen
    else:
        attention = seen[item.pooled_into.to(seen.device)]
    every = torch.arange(item.total, device=kept.device)
    if item.absent is not None:
        attention, every = attention.masked_fill(item.absent.to(seen.device), 0), every[~item.absent.to(kept.device)]
    spread = spread_attention(attention, item, sigma)
    extras = {**item.extras, "attention": spread}
    before = replace(item, kept=every, extras=extras, merge_weights=None, pooled_into=None)
    return replace(before, look=kept, attention=spread)


def spread_attention(attention: Tensor, item: VisualInput, sigma: float) -> Tensor:
    """Spread the attention to the tokens of the look over their neighbours in the image, its tiles or its frames.

    Args:
        attention: (n,) weights >= 0, 0 for tokens that were not in the look.
        item: What tells where the tokens lie; without a grid and tiles they are taken as one row.
        sigma: The width of the Gaussian, in steps of the grid.

    Returns:
        (n,) float32: `max_i a_i exp(-|p_i - p_j|^2 / (2 sigma^2))` over the tokens i of the look.
    """
    if item.grid is not None or not item.tiles:
        return _spread(attention.reshape(item.grid or (1, 1, -1)), sigma).reshape(-1)
    spread = attention.clone()
    for tile in item.tiles:
        tokens = torch.tensor(tile.tokens(), device=spread.device)
        spread[tokens] = _spread(attention[tokens].reshape(1, tile.rows, tile.columns), sigma).reshape(-1)
    return spread


def _spread(attention: Tensor, sigma: float) -> Tensor:
    """The same over a grid (t, h, w): the Gaussian is a product over the axes, so the maximum is taken one by one."""
    for axis, size in enumerate(attention.shape):
        steps = torch.arange(size, device=attention.device)
        near = (-((steps[:, None] - steps).float() ** 2) / (2 * sigma**2)).exp()  # (size, size)
        attention = (attention.movedim(axis, -1)[..., None, :] * near).amax(-1).movedim(-1, axis)
    return attention
