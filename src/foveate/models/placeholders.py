"""Which placeholders of a prompt belong to which image, video or audio."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from foveate.errors import InputError


@dataclass(frozen=True, eq=False)
class Span:
    """The row of one image, video or audio, and the columns (n,) of its placeholders there."""

    row: int
    columns: Tensor


def match_placeholders(places: Tensor, sizes: Sequence[int], modality: str = "image") -> list[Span]:
    """Assign placeholders to images, videos or audios, in reading order.

    Args:
        places: (b, L) bool, true where a placeholder stands.
        sizes: Number of tokens of each image, video or audio.
        modality: "image", "video" or "audio", for the error.

    Raises:
        InputError: The numbers do not match, or one makes no tokens; it names the row and the image.
    """
    fix = f"let the model's own processor build both from the same {modality}s, in the order of the rows."
    columns = [row.nonzero().squeeze(1) for row in places]
    spans: list[Span] = []
    row = start = 0
    for number, size in enumerate(sizes):
        if size < 1:
            raise InputError(f"{modality.capitalize()} {number} of {len(sizes)} makes no tokens: leave it out.")
        while row < len(columns) and start == len(columns[row]):
            row, start = row + 1, 0
        left = len(columns[row]) - start if row < len(columns) else 0
        if left < size:
            where = f"row {row} has {left} {modality} placeholders left for it" if left else "no placeholder is left"
            raise InputError(f"{modality.capitalize()} {number} of {len(sizes)} makes {size} tokens but {where}: {fix}")
        spans.append(Span(row, columns[row][start : start + size]))
        start += size
    spare = [len(own) - (start if n == row else 0) for n, own in enumerate(columns)][row:]
    if any(spare):
        worst = row + next(i for i, count in enumerate(spare) if count)
        raise InputError(
            f"Row {worst} has {spare[worst - row]} {modality} placeholders more than its {modality}s make tokens: {fix}"
        )
    return spans
