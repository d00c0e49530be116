"""A batch of prompts as `Family.shorten` receives it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foveate.models.sequence import Layout
from foveate.models.visual_input import VisualInput


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """A batch of prompts, what their encoders returned, and which of the visual tokens stay.

    Args:
        inputs: The processor's output.
        outputs: The encoders' outputs by modality, or what a family has in their place.
        items: The visual inputs; each `kept` says what stays.
        mask: (b, L) attention mask.
        layout: Which columns stay, and where they go.
        pad_id: Id for padding where rows become shorter than others.
        compact: Whether the kept tokens are numbered anew.
    """

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    items: Sequence[VisualInput]
    mask: Tensor
    layout: Layout
    pad_id: int
    compact: bool


def mark_staying(mask: Tensor, items: Sequence[VisualInput]) -> Tensor:
    """(b, L): true for text and kept tokens, false for padding and dropped tokens."""
    stays = mask.bool().clone()
    for item in items:
        if len(item.columns):  # else the language model attends across to its tokens
            is_kept = torch.zeros_like(item.columns, dtype=torch.bool)
            is_kept[item.kept.to(is_kept.device)] = True
            stays[item.row, item.columns] &= is_kept
    return stays
