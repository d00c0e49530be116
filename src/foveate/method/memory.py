"""Which tokens of the frames of a stream stay in memory: without a question, in bounded memory and time per frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError, KeepError, describe
from foveate.method.checks import check_between, is_int
from foveate.method.foveate import Foveate
from foveate.method.tokens import Grid, VisualTokens, unit_rows

RECENT = 4  # frames that are thinned out after all others
UNSEEN = -1.0  # the likeness of a token to which nothing newer was compared
Rows = Mapping[str, Tensor]


@dataclass(frozen=True)
class StreamSettings:
    """How much of a stream is remembered.

    Args:
        tokens: At most so many visual tokens of all frames, from one frame's on.
        frames: At most so many frames of which something is left.
        detail: The share of a frame's tokens that stay at most once a newer frame came, in (0, 1].

    Raises:
        InputError: A number is out of range.
    """

    tokens: int = 4096
    frames: int = 32
    detail: float = 0.25

    def __post_init__(self) -> None:
        for name in ("tokens", "frames"):
            value = getattr(self, name)
            if not is_int(value) or value < 1:
                raise InputError(f"{name}={describe(value)} is not a number of at least 1: use an int.")
        check_between("detail", self.detail, 0, 1)


@dataclass(frozen=True, eq=False)
class FrameTokens:
    """What is remembered of a frame.

    Args:
        frame: The frame itself, of any type.
        indices: (c,) ascending indices of these tokens among all of the frame.
        rows: (c, ...) values of each token by name; "embeds" (c, d) are those that tokens are compared by.
        likeness: (c,) the largest cosine to a token that is newer.
        grid: (t, h, w) of all tokens of the frame; None where they have none.
    """

    frame: Any
    indices: Tensor
    rows: Rows
    likeness: Tensor
    grid: Grid | None

    def subset(self, chosen: Tensor) -> FrameTokens:
        """Some of these tokens, by a mask (c,) or by ascending indices."""
        rows = {name: value[chosen] for name, value in self.rows.items()}
        return replace(self, indices=self.indices[chosen], rows=rows, likeness=self.likeness[chosen])

    def compare(self, units: Tensor) -> FrameTokens:
        """The same tokens, compared to newer ones (m, d) of length 1."""
        if not len(units) or not len(self.indices):
            return self
        nearest = (unit_rows(self.rows["embeds"]) @ units.T).amax(1)
        return replace(self, likeness=torch.maximum(self.likeness, nearest))


class TokenMemory:
    """The tokens of a stream that are remembered. The newest frame is whole; of older frames stays what has changed.

    A token that looks as its place did in the frame before takes the place of the older one. So what is still to be
    seen belongs to the newest frame, what is gone to the last frame that showed it, and a still image costs nothing. A
    frame that is no longer the newest keeps at most the share `detail` of its tokens, chosen by the rule of `Foveate`
    without a question. Where memory is full, tokens that look most like a newer one go first, those of the last
    `RECENT` frames after all others; where there are too many frames, the one that holds the least of its own goes.

    Time and memory for a frame depend on `settings`, not on how many came before.

    Args:
        settings: The limits.
        threshold: The cosine above which a token repeats one of the same place.

    Source:
        This project. Repeats are dropped as in videos; FluxMem (arXiv 2603.02096) has tiers by age too, but keeps the
        first of what repeats and drops by thresholds, without a bound.
    """

    def __init__(self, settings: StreamSettings, threshold: float) -> None:
        self.settings, self.threshold = settings, threshold
        self.frames: list[FrameTokens] = []
        self._anchors: Tensor | None = None  # (n, d) of length 1: how each place looked when it last changed

    @property
    def count(self) -> int:
        """The number of tokens."""
        return sum(len(each.indices) for each in self.frames)

    def add(self, frame: Any, rows: Rows, grid: Grid | None, *, is_same_view: bool) -> None:
        """Remember a frame that is newer than all others.

        Args:
            frame: The frame itself, of any type.
            rows: (n, ...) values of all of its tokens by name, "embeds" (n, d) among them.
            grid: (t, h, w) of the tokens; None where they have none.
            is_same_view: Whether its tokens lie where those of the frame before lay.

        Raises:
            KeepError: There is no room for all tokens of one frame.
        """
        units = unit_rows(rows["embeds"])
        if len(units) > self.settings.tokens:
            raise KeepError(
                f"tokens={self.settings.tokens} is less than the {len(units)} tokens of one frame, and the newest is "
                "remembered whole: raise it, or show smaller frames."
            )
        changed = torch.ones(len(units), dtype=torch.bool, device=units.device)
        if is_same_view and self._anchors is not None and self._anchors.shape == units.shape:
            changed = (units * self._anchors).sum(-1) <= self.threshold
            self._anchors = torch.where(changed[:, None], units, self._anchors)
        else:
            self._anchors = units
        older = [each.compare(units[changed]) for each in self.frames[:-1]]
        if self.frames:
            older.append(self._thin(self.frames[-1], changed).compare(units))
        likeness = torch.full((len(units),), UNSEEN, device=units.device)
        newest = FrameTokens(frame, torch.arange(len(units), device=units.device), rows, likeness, grid)
        self.frames = [*self._forget(older, self.settings.tokens - len(units)), newest]

    def clear(self) -> None:
        """Forget everything."""
        self.frames, self._anchors = [], None

    def count_bytes(self) -> int:
        """The bytes of all tensors."""
        tensors = [tensor for each in self.frames for tensor in (each.indices, each.likeness, *each.rows.values())]
        tensors += [] if self._anchors is None else [self._anchors]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def _thin(self, last: FrameTokens, changed: Tensor) -> FrameTokens:
        """Of the frame that was the newest, a spread choice of what the next one no longer shows."""
        total = len(last.indices)
        most = max(1, int(self.settings.detail * total))
        left = changed.nonzero().squeeze(1) if len(changed) == total else last.indices
        if len(left) > most:
            embeds = last.rows["embeds"]
            tokens = VisualTokens(embeds, embeds[:0], last.grid)
            part = tokens.subset(left, of_raster=last.grid is not None)
            left = left[Foveate().blind.select(part, most)]
        return last.subset(left)

    def _forget(self, older: Sequence[FrameTokens], room: int) -> list[FrameTokens]:
        """The older frames without what there is no room for."""
        older = [each for each in older if len(each.indices)]
        older = _drop_tokens(older, sum(len(each.indices) for each in older) - room)
        while len(older) >= self.settings.frames:
            own = [float((1 - each.likeness).sum()) for each in older]
            del older[min(range(len(own)), key=own.__getitem__)]
        return older


def _drop_tokens(older: Sequence[FrameTokens], count: int) -> list[FrameTokens]:
    """The frames without the `count` tokens that look most like newer ones."""
    if count <= 0:
        return list(older)
    sizes = [len(each.indices) for each in older]
    recent = [0.0 if len(older) - number > RECENT else -3.0 for number in range(len(older))]
    order = torch.cat([each.likeness + shift for each, shift in zip(older, recent, strict=True)])
    stays = torch.ones_like(order, dtype=torch.bool)
    stays[order.topk(count).indices] = False
    kept = [each.subset(own) for each, own in zip(older, stays.split(sizes), strict=True)]
    return [each for each in kept if len(each.indices)]
