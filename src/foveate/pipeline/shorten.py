"""Step 5: the model's inputs without the dropped tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.models import Family
from foveate.models.batch import PromptBatch, mark_staying
from foveate.models.generation import read_pad_id
from foveate.models.sequence import Layout, find_last_columns, lay_out
from foveate.models.visual_input import VisualInput
from foveate.pipeline.encode import Encoded
from foveate.pipeline.inputs import check_token_types, explain_refusal, to_index
from foveate.pipeline.settings import Positions


def make_mask(inputs: Mapping[str, Any], items: Sequence[VisualInput]) -> Tensor:
    """(b, L) the attention mask, ones where the caller passed none.

    Raises `InputError` if it hides placeholders.
    """
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    mask = torch.ones_like(ids) if mask is None else mask.to(ids.device)
    if any(bool((mask[item.row, item.columns] == 0).any()) for item in items):
        raise InputError("attention_mask hides image placeholders: leave them visible, keep decides which ones stay.")
    return mask


def protect_last_tokens(items: Sequence[VisualInput], mask: Tensor) -> list[VisualInput]:
    """The items. One that ends a row has its last token protected: `generate` goes on from there."""
    last: list[int] = find_last_columns(mask).tolist()
    return [_protect_last(item) if last[item.row] in item.columns[-1:].tolist() else item for item in items]


def _protect_last(item: VisualInput) -> VisualInput:
    protected = item.always_kept
    if item.absent is not None and bool(item.absent[-1]):
        raise InputError(
            "The prompt ends in a part of an image that is not encoded: end it in words, which generate goes on from."
        )
    protected[-1] = True
    return replace(item, protected=protected)


def shorten_inputs(
    model: Any, family: Family, inputs: Mapping[str, Any], encoded: Encoded, items: Sequence[VisualInput],
    mask: Tensor, positions: Positions,
) -> tuple[dict[str, Any], Layout]:  # fmt: skip
    """The inputs of the stock model for the tokens that stay: ids, mask, positions, labels and encoder outputs.

    With them goes which columns stayed.
    """
    check_token_types(inputs)
    layout = lay_out(mask, mark_staying(mask, items))
    if family.traits.in_sequence and inputs.get("logits_to_keep") is not None:
        inputs = {**inputs, "logits_to_keep": map_logits(inputs["logits_to_keep"], layout)}
    batch = PromptBatch(inputs, encoded.outputs, items, mask, layout, read_pad_id(model), positions == "compact")
    with explain_refusal(model):
        return family.shorten(model, batch), layout


def map_logits(keep: Any, layout: Layout) -> int | Tensor:
    """`logits_to_keep` of the shorter sequence: a number counts from the end, an index of any kind selects columns."""
    columns = torch.arange(layout.width, device=layout.index.device)
    if not isinstance(keep, int):
        index = to_index(keep)
        return layout.find_columns(columns[index.to(columns.device) if isinstance(index, Tensor) else index])
    if 0 < keep < layout.width:  # else all of them
        layout.find_columns(columns[-keep:])
    return keep
