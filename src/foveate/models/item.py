"""One picture, clip or sound of a batch: where its tokens stand in the prompt, and where they lie on the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from foveate.errors import InputError

Grid = tuple[int, int, int]
NOUNS = {"image": "picture", "video": "clip", "audio": "sound"}


@dataclass(frozen=True, eq=False)
class Item:
    """One picture, clip or sound.

    `row` is its row of the batch, `places` (n,) the columns of its placeholders there (empty where the language model
    attends across to it instead), `first` the column where it stands in the prompt, `embeds` (n, d) its tokens, `grid`
    their (t, h, w) in raster order, where there is one. `fixed` (n,) marks tokens that always stay, such as the ends of
    rows. `extras` are more of what methods read, by the names of `VisualTokens`' fields. `tiles` is the number of its
    tiles of one size, where that is known.
    """

    modality: str
    row: int
    places: Tensor
    first: int
    embeds: Tensor
    grid: Grid | None = None
    fixed: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    tiles: int = 1


@dataclass(frozen=True)
class View:
    """Tokens that lie over a whole picture, tile or frame, in `rows` x `columns` equal cells.

    `start` is the index of the first one among the item's tokens, `step` how many there are from one row's first to the
    next one's: `columns`, or more where a row ends in tokens of structure. `padded`: the picture lies in the middle of
    a square.
    """

    start: int
    rows: int
    columns: int
    step: int
    padded: bool = False

    def tokens(self) -> list[int]:
        """The indices of its tokens, row by row."""
        return [self.start + row * self.step + column for row in range(self.rows) for column in range(self.columns)]


Views = tuple[View, ...]


def frames(grid: Grid, fixed: Tensor | None = None) -> Views:
    """A view for every frame of a grid, without its last column where that is `fixed` (n,)."""
    t, rows, width = grid
    ends = fixed is not None and width > 1 and bool(fixed.view(grid)[..., -1].all())
    return tuple(View(frame * rows * width, rows, width - ends, width) for frame in range(t))


def squares(count: int, side: int) -> Views:
    """So many square views, one after the other."""
    return tuple(View(number * side**2, side, side, side) for number in range(count))


def runs(fixed: Tensor) -> list[tuple[int, int]]:
    """Where tokens that are not `fixed` (n,) stand in a row: the first of each run, and the end."""
    edges = torch.nn.functional.pad((~fixed).int(), (1, 1)).diff()
    starts, ends = ((edges == step).nonzero().squeeze(1).tolist() for step in (1, -1))
    return list(zip(starts, ends, strict=True))


def lines(found: Sequence[tuple[int, int]]) -> Views:
    """One view whose rows are these runs; none where they differ in length or in distance."""
    lengths, steps = {end - start for start, end in found}, {b[0] - a[0] for a, b in pairwise(found)}
    if len(lengths) != 1 or len(steps) > 1:
        return ()
    columns = lengths.pop()
    return (View(found[0][0], len(found), columns, steps.pop() if steps else columns),)


def ended_rows(fixed: Tensor | None) -> Views:
    """One view whose rows each end in `fixed` (n,) tokens; none where there are no such ends, or rows differ."""
    return () if fixed is None else lines(runs(fixed))


@dataclass(frozen=True, eq=False)
class Span:
    """Where one picture's placeholders stand: the row, and their places in it."""

    row: int
    places: Tensor


def match_places(places: Tensor, sizes: Sequence[int], modality: str = "image") -> list[Span]:
    """Hand each picture its placeholders, in reading order.

    `places` (b, L) is true where a placeholder stands; `sizes` are the pictures' numbers of tokens.

    Raises `InputError` that names the row and the picture where the two do not fit.
    """
    noun = NOUNS[modality]
    fix = f"let the model's own processor build both from the same {noun}s, in the order of the rows."
    columns = [row.nonzero().squeeze(1) for row in places]
    spans: list[Span] = []
    row = start = 0
    for number, size in enumerate(sizes):
        while row < len(columns) and start == len(columns[row]):
            row, start = row + 1, 0
        left = len(columns[row]) - start if row < len(columns) else 0
        if left < size:
            where = f"row {row} has {left} {modality} placeholders left for it" if left else "no placeholder is left"
            raise InputError(f"{noun.capitalize()} {number} of {len(sizes)} makes {size} tokens but {where}: {fix}")
        spans.append(Span(row, columns[row][start : start + size]))
        start += size
    spare = [len(found) - (start if n == row else 0) for n, found in enumerate(columns)][row:]
    if any(spare):
        worst = row + next(i for i, count in enumerate(spare) if count)
        raise InputError(
            f"Row {worst} has {spare[worst - row]} {modality} placeholders more than its {noun}s make tokens: {fix}"
        )
    return spans
