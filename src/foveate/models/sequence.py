"""Shorter inputs: the ids, masks, positions and labels of the tokens that stay, and where these stood before."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError

IGNORED_LABEL = -100
# `generate` drops a mask that is all ones; without a mask and without a cache, transformers then takes a gap in
# one-dimensional position ids for the border between packed sequences and cuts attention there. Any mask value but 0
# means "attend", and only 1 is dropped.
ATTEND = 2


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the tokens of a shorter sequence stood in the whole one.

    Behind the last dropped token every column is what it was, padding too: columns counted from the end stay the same
    for prompts padded on the left with answers padded on the right. The tokens before it are padded on the left.

    Args:
        index: (b, L') columns of the tokens in the whole sequence, distinct in a row.
        real: (b, L') false for padding.
        width: L, the length of the whole sequence.
        end: The column behind the last dropped token, 0 where none was dropped.
    """

    index: Tensor
    real: Tensor
    width: int
    end: int

    def cut(self, values: Tensor, fill: int | bool) -> Tensor:
        """(..., b, L) -> (..., b, L'), with `fill` on padding."""
        index, real = self.index.to(values.device), self.real.to(values.device)
        return values.gather(-1, index.expand(*values.shape[:-1], -1)).masked_fill(~real, fill)

    def restore(self, values: Tensor) -> Tensor:
        """Scores of next tokens, (b, L' - 1) -> (b, L - 1): each where its token stood, 0 for dropped tokens."""
        whole = values.new_zeros(len(values), self.width)
        return whole.scatter(1, self.index[:, 1:].to(values.device), values)[:, 1:]

    def find_columns(self, columns: Tensor) -> Tensor:
        """The columns (n,) of the shorter sequence where those of the whole one are now, in all rows.

        Raises `InputError` for a column that was dropped, or that moved differently from row to row.
        """
        columns = columns.to(self.index.device)
        is_there = (self.index[:, None] == columns[:, None]) & self.real[:, None]  # (b, n, L')
        places = torch.where(is_there.any(-1), is_there.int().argmax(-1), -1)
        tail = columns - self.width + self.index.shape[1]
        moved = torch.where(columns < self.end, places[0], tail)
        if bool(((columns < self.end) & ((places < 0) | (places != moved)).any(0)).any()):
            raise InputError(
                "logits_to_keep asks for columns of dropped visual tokens, or for columns before them in rows of "
                "different lengths: ask for columns behind the last image, or leave it out."
            )
        return moved


def lay_out(mask: Tensor, stays: Tensor) -> Layout:
    """The layout of the tokens that stay: (b, L) attention mask, and (b, L) true for them and false on padding."""
    dropped = (mask.bool() & ~stays).any(0).nonzero()
    end = int(dropped[-1]) + 1 if len(dropped) else 0
    index, real = kept_places(stays[:, :end])
    tail = torch.arange(end, stays.shape[1], device=stays.device).expand(len(stays), -1)
    return Layout(torch.cat([index, tail], 1), torch.cat([real, stays[:, end:]], 1), stays.shape[1], end)


def kept_places(stays: Tensor) -> tuple[Tensor, Tensor]:
    """(b, n) places of the tokens that stay (b, L), distinct in a row and padded on the left; false for padding."""
    lengths = stays.sum(-1)
    width = int(lengths.max()) if stays.shape[1] else 0
    index = stays.long().argsort(dim=-1, stable=True)[:, stays.shape[1] - width :]
    return index, torch.arange(width, device=stays.device) >= (width - lengths)[:, None]


def cut_sequence(
    inputs: Mapping[str, Any], layout: Layout, positions: Tensor, *, pad_id: int, compact: bool = False
) -> dict[str, Any]:
    """Cut every tensor of the sequence down to the tokens that stay.

    `positions` are the unpruned sequence's, (b, L), or (4, b, L) whose first row counts tokens for the mask. `compact`
    numbers the kept tokens anew.

    The result always holds `input_ids`, `attention_mask` and `position_ids`; inputs that are no part of the sequence
    are handed on.

    Raises `InputError` for a tensor of the sequence's shape that it does not know.
    """
    shape = (len(layout.index), layout.width)
    fills = {"input_ids": pad_id, "labels": IGNORED_LABEL}
    fills |= {name: 0 for name in inputs if name.endswith("token_type_ids")}
    out: dict[str, Any] = {}
    for name, value in inputs.items():
        if name in ("attention_mask", "position_ids"):
            continue
        if name in fills and value is not None:
            if tuple(value.shape[-2:]) != shape:
                raise InputError(f"{name} has shape {tuple(value.shape)}, the prompt {shape}: give one a token.")
            out[name] = layout.cut(value, fills[name])
            if name == "labels":  # nothing predicts the first token of a prompt, also where padding is before it now
                out[name][:, 1:].masked_fill_(layout.index[:, 1:].to(value.device) == 0, IGNORED_LABEL)
        elif isinstance(value, Tensor) and tuple(value.shape[:2]) == shape:
            raise InputError(f"{name} has the prompt's shape {shape} but foveate cannot shorten it: leave it out.")
        else:
            out[name] = value
    counted = count_positions(layout.real)
    if compact:
        out["position_ids"] = counted.expand(*positions.shape[:-1], -1).clone()
    else:
        out["position_ids"] = layout.cut(positions, 0)
        if positions.ndim == 3:
            out["position_ids"][0] = counted
    gapped = positions.ndim == 2 and not compact and bool((out["position_ids"] != counted).any())
    out["attention_mask"] = layout.real.long() * (ATTEND if gapped and bool(layout.real.all()) else 1)
    return out


def count_positions(mask: Tensor) -> Tensor:
    """Positions that count the real tokens of each row: (b, L) mask -> (b, L), 0 on padding."""
    return (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 0)


def find_last_columns(mask: Tensor) -> Tensor:
    """(b, L) mask -> (b,) the column of each row's last token that is not padding, -1 in a row of padding."""
    columns = torch.arange(mask.shape[1], device=mask.device)
    return columns.where(mask != 0, -1).amax(1)


def complete_positions(positions: Tensor, mask: Tensor) -> Tensor:
    """Position ids of the caller, (L,), (1, L), (b, L), (3, b, L) or (4, b, L), as `cut_sequence` takes them.

    Three axes get a row before them that counts tokens.
    """
    if positions.shape[-1] != mask.shape[1] or positions.ndim > 3:
        raise InputError(f"position_ids have shape {tuple(positions.shape)}, the prompt {tuple(mask.shape)}.")
    whole = positions.to(mask.device).expand(*positions.shape[:-2], len(mask), -1)
    return torch.cat([count_positions(mask)[None], whole]) if whole.ndim == 3 and len(whole) == 3 else whole
