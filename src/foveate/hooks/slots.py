"""Which columns of the prompt a layer still holds: cut tensors down to them, and scatter them back."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.models.sequence import kept_places


@dataclass(frozen=True, eq=False)
class Slots:
    """What the layers from `layer` on hold of a prompt of `length` tokens, for each row of the batch.

    `places` (b, S) is the place in the prompt that a slot holds, in order; `real` (b, S) is false on padding, which
    fills up rows that keep less than others. The padding's places are real ones, but distinct in a row.
    """

    layer: int
    length: int
    places: Tensor
    real: Tensor

    @classmethod
    def make_whole(cls, mask: Tensor) -> Slots:
        """Everything, before the first drop; `mask` (b, L) is 0 on padding."""
        places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        return cls(0, mask.shape[1], places, mask.bool())

    @classmethod
    def make_kept(cls, layer: int, stays: Tensor) -> Slots:
        """The places where `stays` (b, L) is true."""
        places, real = kept_places(stays)
        return cls(layer, stays.shape[1], places, real)

    def drop_answer(self, answer: int) -> Slots:
        """The same without the last `answer` tokens, which a cache may drop again; unchanged where they are padded."""
        if not answer or not bool((self.real & (self.places >= self.length - answer)).sum(1).eq(answer).all()):
            return self
        return Slots(self.layer, self.length - answer, self.places[:, :-answer], self.real[:, :-answer])

    def select(self, rows: Tensor) -> Slots:
        """The same for these rows (n,)."""
        return Slots(
            self.layer, self.length, self.places[rows.to(self.places.device)], self.real[rows.to(self.real.device)]
        )

    def find_slots(self, row: int, places: Tensor) -> Tensor:
        """The slots that hold these places of a row."""
        slot = torch.full((self.length,), -1, device=self.places.device)
        slot[self.places[row]] = torch.arange(self.places.shape[1], device=slot.device)
        return slot[places.to(slot.device)]

    def cut(self, states: Tensor) -> Tensor:
        """(b or 1, L, d) of the whole prompt -> (b, S, d)."""
        index = self.places.to(states.device)[..., None].expand(-1, -1, states.shape[-1])
        return states.expand(len(index), -1, -1).gather(1, index)

    def scatter(self, states: Tensor) -> Tensor:
        """(b, S, d) -> (b, L, d), zero at dropped tokens."""
        index = self.places.to(states.device)[..., None].expand(-1, -1, states.shape[-1])
        return states.new_zeros(len(states), self.length, states.shape[-1]).scatter(1, index, states)

    def make_mask(self, keys: int, mask: Tensor | None) -> Tensor:
        """(b, keys) bool, true is "attend", for the `keys` of a layer: the prompt's and those that came after it.

        `mask` is the caller's, of the prompt and what came after it, or None.

        Raises `InputError` if mask or cache do not fit the prompt that was pruned.
        """
        later = keys - self.places.shape[1]
        if later < 0:
            raise InputError("The cache was cut back into the pruned prompt: give the whole prompt again, without it.")
        if mask is None:
            tail = self.real.new_ones(len(self.real), later)
        elif tuple(mask.shape) == (len(self.real), self.length + later):
            tail = mask[:, self.length :].bool().to(self.real.device)
        else:
            raise InputError(
                f"attention_mask has shape {tuple(mask.shape)}, but the cached prompt and the new tokens are "
                f"{(len(self.real), self.length + later)}: pass the mask of both."
            )
        return torch.cat([self.real, tail], dim=1)


@dataclass(frozen=True, eq=False)
class PrunedLayers:
    """What every layer of a cache holds of its prompt, and who pruned it."""

    slots: tuple[Slots, ...]
    owner: weakref.ref[Any]

    def count_rows(self) -> int:
        """Number of rows."""
        return len(self.slots[0].real)

    def select(self, rows: Tensor) -> PrunedLayers:
        """The record for these rows (n,)."""
        return replace(self, slots=tuple(slots.select(rows) for slots in self.slots))
