"""Calls that go on from a pruned prompt: the caller counts its whole prompt, the cache holds the shorter one.

What was pruned is recorded on the cache itself, so that copies of the cache have it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.models.cache import NAMES
from foveate.models.sequence import Layout

if TYPE_CHECKING:
    from typing_extensions import Self

OTHER = (
    "This cache was pruned by another method, whose handle was removed or is not the newest one: "
    "go on under that handle, or give the whole prompt again, without a cache."
)
RECORD = "foveate_prompt"  # attribute of a cache
OPEN = "foveate_open"  # attribute of a cache that may be filled
ROWS = ("reorder_cache", "batch_select_indices", "batch_repeat_interleave")  # methods of a cache that change its rows


@dataclass(frozen=True, eq=False)
class PrunedPrompt:
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

    def next_positions(self, past: int, count: int) -> Tensor:
        """(b, q) or (axes, b, q) position ids of `count` tokens, `past` tokens behind the prompt."""
        after = self.positions[1:] if self.is_counted else self.positions
        last = after.masked_fill(~self.layout.real, -1).amax(-1)  # (b,) or (axes, b)
        last = last.amax(0).expand_as(last) if last.ndim == 2 else last
        steps = torch.arange(1 + past, 1 + past + count, device=last.device)
        following = last[..., None] + steps
        return following if not self.is_counted else torch.cat([self.count_tokens(past, count)[None], following])

    def count_tokens(self, past: int, count: int) -> Tensor:
        """(b, q) how many real tokens stand before each of `count` tokens, `past` tokens behind the prompt."""
        steps = torch.arange(past, past + count, device=self.layout.real.device)
        return self.layout.real.sum(-1)[:, None] + steps

    def select(self, rows: Tensor) -> PrunedPrompt:
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
        return torch.cat([real.to(mask), mask[:, self.layout.width :].expand(len(real), -1)], dim=1)


@dataclass(frozen=True, eq=False)
class PrunedStates:
    """The masks of what a model attends across to, beside its own sequence.

    Args:
        masks: By the name of the input, (b, L') for a separate encoder's sequence, (b, 1, ...) for the newest token.
    """

    masks: dict[str, Tensor]

    def select(self, rows: Tensor) -> PrunedStates:
        """The record for these rows (n,)."""
        return PrunedStates({name: mask[rows.to(mask.device)] for name, mask in self.masks.items()})

    def count_rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.masks.values())))


class Record(Protocol):
    """What a cache may hold: something of every row."""

    def count_rows(self) -> int:
        """Number of rows."""

    def select(self, rows: Tensor) -> Self:
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
        raise InputError(f"The cache holds a pruned prompt of {own} rows: go on with as many rows, not {rows}.")
    return prompt.select(torch.arange(own).repeat_interleave(rows // own))


def record_prompt(cache: Any, record: Record) -> None:
    """Note on a cache what it holds; the record follows when the rows of the cache are reordered.

    From then on the cache takes new tokens in calls that its record was read for, and refuses them in others.
    """
    setattr(cache, RECORD, record)
    for name in ROWS:
        if hasattr(cache, name):
            setattr(cache, name, partial(_change_rows, cache, name))
    cache.update = partial(_update, cache)


def forget_prompt(cache: Any) -> None:
    """Take the record off a cache."""
    for name in (RECORD, OPEN, "update", *ROWS):
        cache.__dict__.pop(name, None)


def read_prompt(cache: Any) -> Any:
    """The record of a cache; None where it holds no pruned prompt. A cache that was reset loses its record."""
    record = getattr(cache, RECORD, None)
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
    """The cache's own method, and the same for the record."""
    prompt: Record = getattr(cache, RECORD)
    count = prompt.count_rows()
    if name == "batch_repeat_interleave":
        rows = torch.arange(count).repeat_interleave(argument)
    else:
        rows = argument if torch.is_tensor(argument) else torch.as_tensor(argument)
        if len(rows) != count and len(rows) % count == 0:  # beams, which the record does not count
            prompt = prompt.select(torch.arange(count).repeat_interleave(len(rows) // count))
    setattr(cache, RECORD, prompt.select(rows))
    return getattr(type(cache), name)(cache, argument)


def count_past(cache: Any, prompt: PrunedPrompt) -> int:
    """How many tokens the cache holds behind the prompt."""
    past: int = cache.get_seq_length() - prompt.length
    if past < 0:
        raise InputError("The cache was cropped into its pruned prompt: pass the whole prompt again, without a cache.")
    return past


def continue_call(cache: Any, prompt: PrunedPrompt | PrunedStates, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a forward call behind a pruned prompt, as the cache needs them."""
    if isinstance(prompt, PrunedStates):
        return {**inputs, **_continue_across(prompt, inputs)}
    if not isinstance(prompt, PrunedPrompt):
        raise InputError(OTHER)
    new = inputs["input_ids"] if inputs.get("input_ids") is not None else inputs["inputs_embeds"]
    prompt, past, count = fit_rows(prompt, len(new)), count_past(cache, prompt), new.shape[1]
    out = {name: value for name, value in inputs.items() if name != "cache_position"}
    out["attention_mask"] = prompt.join_mask(inputs.get("attention_mask"), past, count)
    positions = inputs.get("position_ids")
    if positions is None:
        out["position_ids"] = prompt.next_positions(past, count)
    else:
        axes = positions.to(prompt.shift.device).expand(*positions.shape[:-2], len(new), -1) - prompt.shift[:, None]
        if prompt.is_counted and axes.ndim == 3:
            axes = torch.cat([prompt.count_tokens(past, count)[None], axes[-3:]])
        out["position_ids"] = axes
    return out


def _continue_across(prompt: PrunedStates, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """New tokens see what the last token of the prompt saw."""
    if inputs.get("decoder_input_ids") is not None:
        return fit_rows(prompt, len(inputs["decoder_input_ids"])).masks
    ids = inputs["input_ids"]
    return {name: torch.cat([mask] * ids.shape[1], dim=1) for name, mask in fit_rows(prompt, len(ids)).masks.items()}


def continue_generate(
    cache: Any, prompt: PrunedPrompt, inputs: Mapping[str, Any], make_mask: Callable[[Tensor], Tensor]
) -> dict[str, Any]:
    """The inputs of `generate` behind a pruned prompt: `input_ids` are the whole conversation or the new tokens.

    `make_mask` makes the mask of a whole conversation that came without one.
    """
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    prompt, past, width = fit_rows(prompt, len(ids)), count_past(cache, prompt), prompt.layout.width
    is_whole = ids.shape[1] > width + past if mask is None else mask.shape[1] == ids.shape[1]
    count = ids.shape[1] - width - past if is_whole else ids.shape[1]
    if is_whole and count < 1:
        raise InputError("input_ids hold nothing behind what the cache holds: append the next turn's tokens.")
    out = {name: value for name, value in inputs.items() if name not in ("cache_position", "position_ids")}
    if is_whole:
        mask = make_mask(ids) if mask is None else mask
        out["input_ids"] = torch.cat([prompt.layout.cut(ids[:, :width], 0), ids[:, width:]], dim=1)
    real = prompt.layout.real.long()
    joined = prompt.join_mask(mask, past, count)
    out["attention_mask"] = torch.cat([real, real.new_ones(len(real), past + count)], 1) if joined is None else joined
    out["position_ids"] = torch.cat([prompt.positions, prompt.next_positions(0, past + count)], dim=-1)
    return out


def find_cache(output: Any) -> Any:
    """The cache in what a forward call or `generate` returned; None where there is none."""
    parts = output if isinstance(output, tuple) else [getattr(output, name, None) for name in NAMES]
    return next((part for part in parts if hasattr(part, "get_seq_length")), None)
