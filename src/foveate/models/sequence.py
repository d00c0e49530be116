"""Shorter inputs: the ids, masks, positions and labels of the tokens that stay, re-padded where rows differ."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError

IGNORED_LABEL = -100
# `generate` drops a mask that is all ones; without a mask and without a cache, transformers then takes a gap in
# one-dimensional position ids for the border between packed sequences and cuts attention there. Any mask value but 0
# means "attend", and only 1 is dropped.
ATTEND = 2


def cut_sequence(
    inputs: Mapping[str, Any], stays: Tensor, positions: Tensor, *, pad_id: int, compact: bool = False
) -> dict[str, Any]:
    """Cut every tensor of the sequence down to the tokens that stay.

    `stays` (b, L) is true for them; it must be false on padding. `positions` are the unpruned sequence's, (b, L), or
    (4, b, L) whose first row counts tokens for the mask. Rows of different length are padded on the side that was
    padded before, else left. `compact` numbers the kept tokens anew.

    The result always holds `input_ids`, `attention_mask` and `position_ids`; inputs that are no part of the sequence
    are handed on.

    Raises `InputError` for a tensor of the sequence's shape that it does not know.
    """
    shape = tuple(stays.shape)
    fills = {"input_ids": pad_id, "labels": IGNORED_LABEL}
    fills |= {name: 0 for name in inputs if name.endswith("token_type_ids")}
    index, real = kept_places(stays, left=_pads_left(inputs.get("attention_mask")))

    def cut(row: Tensor, fill: int) -> Tensor:
        """(..., b, L) -> (..., b, L')."""
        there, here = index.to(row.device), real.to(row.device)
        return row.gather(-1, there.expand(*row.shape[:-1], -1)).masked_fill(~here, fill)

    out: dict[str, Any] = {}
    for name, value in inputs.items():
        if name in ("attention_mask", "position_ids"):
            continue
        if name in fills and value is not None:
            if tuple(value.shape[-2:]) != shape:
                raise InputError(f"{name} has shape {tuple(value.shape)}, the prompt {shape}: give one a token.")
            out[name] = cut(value, fills[name])
        elif isinstance(value, Tensor) and tuple(value.shape[:2]) == shape:
            raise InputError(f"{name} has the prompt's shape {shape} but foveate cannot shorten it: leave it out.")
        else:
            out[name] = value
    counted = count_positions(real)
    if compact:
        out["position_ids"] = counted.expand(*positions.shape[:-1], -1).clone()
    else:
        out["position_ids"] = cut(positions, 0)
        if positions.ndim == 3:
            out["position_ids"][0] = counted
    gapped = positions.ndim == 2 and not compact and bool((out["position_ids"] != counted).any())
    out["attention_mask"] = real.long() * (ATTEND if gapped and bool(real.all()) else 1)
    return out


def count_positions(mask: Tensor) -> Tensor:
    """Positions that count the real tokens of each row: (b, L) mask -> (b, L), 0 on padding."""
    return (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 0)


def _pads_left(mask: Tensor | None) -> bool:
    return mask is None or bool(mask[:, -1].all()) or not bool(mask[:, 0].all())


def kept_places(stays: Tensor, *, left: bool) -> tuple[Tensor, Tensor]:
    """(b, L') places of the kept tokens, distinct in a row, and which of these are real rather than padding."""
    lengths = stays.sum(-1)
    width = int(lengths.max())
    order = stays.long().argsort(dim=-1, descending=not left, stable=True)  # kept tokens last (left) or first (right)
    index = order[:, -width:] if left else order[:, :width]
    slots = torch.arange(width, device=stays.device)
    real = slots >= (width - lengths)[:, None] if left else slots < lengths[:, None]
    return index, real
