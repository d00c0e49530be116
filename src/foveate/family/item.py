"""One picture, clip or sound of a batch, and where its tokens stand in the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
    rows. `extras` are more of what methods read, by the names of `VisualTokens`' fields.
    """

    modality: str
    row: int
    places: Tensor
    first: int
    embeds: Tensor
    grid: Grid | None = None
    fixed: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)


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
