"""What a cache holds of a pruned prompt, recorded on the cache itself, so that copies of the cache have it too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.models.cache import NAMES
from foveate.models.sequence import Layout, find_last_columns

OTHER = (
    "This cache was pruned by another method, whose handle was removed or is not the newest one: "
    "go on under that handle, or give the whole prompt again, without a cache."
)
RECORD = "foveate_prompt"  # attribute of a cache
VISUAL = "foveate_visual"  # attribute of a cache that holds its whole prompt
OPEN = "foveate_open"  # attribute of a cache that may be filled
ROWS = ("reorder_cache", "batch_select_indices", "batch_repeat_interleave")  # methods of a cache that change its rows


@dataclass(frozen=True, eq=False)
class CachedPrompt:
    """The pruned prompt that a cache holds.

    Args:
        layout: Which columns of the caller's prompt stayed.
        positions: (b, L') or (axes, b, L') position ids of the tokens that stayed.
        is_counted: Whether the first of several axes only counts tokens.
        shift: (b,) how much smaller positions are after the prompt than the caller's, where they were numbered anew.
        length: Length of the cache behind the prompt.
    """

    layout: Layout
    positions: Tensor
    is_counted: bool
    shift: Tensor
    length: int

    def next_positions(self, steps: Tensor) -> Tensor:
        """(b, q) or (axes, b, q) position ids of tokens (b, q) steps behind the prompt, the first one at 0."""
        after = self.positions[1:] if self.is_counted else self.positions
        last = after.masked_fill(~self.layout.real, -1).amax(-1)  # (b,) or (axes, b)
        last = last.amax(0).expand_as(last) if last.ndim == 2 else last
        following = last[..., None] + 1 + steps
        return following if not self.is_counted else torch.cat([self.count_tokens(steps)[None], following])

    def count_tokens(self, steps: Tensor) -> Tensor:
        """(b, q) how many real tokens of the shorter sequence stand before each of these tokens."""
        return self.layout.real.sum(-1)[:, None] + steps

    def select(self, rows: Tensor) -> CachedPrompt:
        """The record for these rows (n,)."""
        rows = rows.to(self.shift.device)
        layout = replace(self.layout, index=self.layout.index[rows], real=self.layout.real[rows])
        positions = self.positions.index_select(-2, rows)
        return replace(self, layout=layout, positions=positions, shift=self.shift[rows])

    def count_rows(self) -> int:
        """Number of rows."""
        return len(self.shift)

    def join_mask(self, mask: Tensor | None, past: int, count: int) -> Tensor | None:
        """(b, L' + past + q) the mask of the cache and of `count` new tokens, from the caller's; None for no padding.

        Raises `InputError` for a mask that does not cover the caller's prompt.
        """
        real = self.layout.real.long()
        if mask is None:
            return None if bool(real.all()) else torch.cat([real, real.new_ones(len(real), past + count)], dim=1)
        width = self.layout.width + past + count
        if not isinstance(mask, Tensor) or mask.ndim != 2 or mask.shape[1] != width:
            shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            raise InputError(
                f"attention_mask is {shape}: after the pruned prompt pass one of {width} columns, for your whole "
                "prompt and all new tokens, or none."
            )
        if bool(((self.layout.cut(mask[:, : self.layout.width], 0) != 0) != self.layout.real.to(mask.device)).any()):
            raise InputError(
                "attention_mask hides other columns of the prompt than in the call that pruned it. If you changed the "
                "rows of the cache, do it by its own methods (reorder_cache, batch_repeat_interleave, ...)."
            )
        return torch.cat([real.to(mask), mask[:, self.layout.width :].expand(len(real), -1)], dim=1)

    def check_positions(self, positions: Tensor) -> None:
        """Raise `InputError` for positions (b, q) or (axes, b, q) inside the prompt, as of the shorter cache."""
        at = find_last_columns(self.layout.real)[:, None]
        last = self.positions.gather(-1, at.expand(*self.positions.shape[:-1], 1))
        axes = slice(1, None) if self.is_counted and positions.ndim == 3 else slice(None)
        if positions.ndim == last.ndim and bool((positions[axes] <= last[axes]).any()):
            raise InputError(
                "position_ids stand inside the pruned prompt: count from the end of your whole prompt, which is longer "
                "than the cache, or leave them out."
            )


@dataclass(frozen=True, eq=False)
class CachedStates:
    """The masks of what a model attends across to, beside its own sequence.

    Args:
        masks: By the name of the input, (b, L') for a separate encoder's sequence, (b, 1, ...) for the newest token.
        seen: (b, 1, images, tiles) what the caller's own mask lets the newest token see; None where there was none.
    """

    masks: dict[str, Tensor]
    seen: Tensor | None = None

    def select(self, rows: Tensor) -> CachedStates:
        """The record for these rows (n,)."""
        masks = {name: mask[rows.to(mask.device)] for name, mask in self.masks.items()}
        return CachedStates(masks, None if self.seen is None else self.seen[rows.to(self.seen.device)])

    def count_rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.masks.values())))


class Record(Protocol):
    """What a cache may hold: something of every row."""

    def count_rows(self) -> int:
        """Number of rows."""

    def select(self, rows: Tensor) -> Any:
        """The record for these rows (n,)."""


Recorded = TypeVar("Recorded", bound=Record)


def fit_rows(prompt: Recorded, rows: int) -> Recorded:
    """The record for a call of this many rows, which may be beams of every prompt.

    Raises `InputError` for a number of rows that cannot be.
    """
    own = prompt.count_rows()
    if rows == own:
        return prompt
    if rows % own:
        raise InputError(f"The cache holds a prompt of {own} rows: go on with as many rows, not {rows}.")
    beams: Recorded = prompt.select(torch.arange(own).repeat_interleave(rows // own))
    return beams


def record_prompt(cache: Any, record: Record) -> None:
    """Note on a cache what it holds; the record follows when the rows of the cache are reordered.

    From then on the cache takes new tokens in calls that its record was read for, and refuses them in others.
    """
    write_record(cache, RECORD, record)
    cache.update = partial(_update, cache)


def write_record(cache: Any, key: str, record: Record) -> None:
    """Note something on a cache that follows when its rows are reordered."""
    setattr(cache, key, record)
    for name in ROWS:
        if hasattr(cache, name):
            setattr(cache, name, partial(_change_rows, cache, name))


def forget_prompt(cache: Any) -> None:
    """Take all records off a cache."""
    for name in (RECORD, VISUAL, OPEN, "update", *ROWS):
        cache.__dict__.pop(name, None)


def read_prompt(cache: Any) -> Any:
    """The record of a cache; None where it holds no pruned prompt. A cache that was reset loses its record."""
    return read_record(cache, RECORD)


def read_record(cache: Any, key: str) -> Any:
    """What is noted on a cache under this key; None for nothing."""
    record = getattr(cache, key, None)
    if record is not None and cache.get_seq_length() == 0:
        forget_prompt(cache)
        return None
    return record


def open_cache(cache: Any, is_open: bool) -> None:
    """Let a cache with a record take new tokens, or no more."""
    setattr(cache, OPEN, is_open)


def _update(cache: Any, *args: Any, **kwargs: Any) -> Any:
    """The cache's own `update`. Raises `InputError` outside a call that goes on behind the pruned prompt."""
    if read_prompt(cache) is not None and not getattr(cache, OPEN, False):
        raise InputError(
            "This cache holds a pruned prompt, and the model that goes on from it is not being pruned: "
            "keep the handle attached, or give the whole prompt again, without a cache."
        )
    return type(cache).update(cache, *args, **kwargs)


def _change_rows(cache: Any, name: str, argument: Any) -> Any:
    """The cache's own method, and the same for the records."""
    for key in (RECORD, VISUAL):
        if hasattr(cache, key):
            setattr(cache, key, _select_rows(getattr(cache, key), name, argument))
    return getattr(type(cache), name)(cache, argument)


def _select_rows(record: Record, name: str, argument: Any) -> Record:
    """What is left of a record after the method `name` of its cache."""
    count = record.count_rows()
    if name == "batch_repeat_interleave":
        rows = torch.arange(count).repeat_interleave(argument)
    else:
        rows = torch.as_tensor(argument)
        if len(rows) != count and len(rows) % count == 0:  # beams, which the record does not count
            record = record.select(torch.arange(count).repeat_interleave(len(rows) // count))
    selected: Record = record.select(rows)
    return selected


def find_cache(output: Any) -> Any:
    """The cache in what a forward call or `generate` returned; None where there is none."""
    parts = output if isinstance(output, tuple) else (getattr(output, name, None) for name in NAMES)
    return next((part for part in parts if hasattr(part, "get_seq_length")), None)
