"""Which runs of placeholders in a prompt are the tiles of one image, by the ids around them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor

SLICES = 3  # ids between two slices at most: the end of one, a line end, the start of the other
NEAR = 16  # ids before a run among which the mark of an image's start is looked for: a tile's own mark may be several


@dataclass(frozen=True)
class PromptRow:
    """One row of ids and the runs of placeholders in it.

    Args:
        row: Row of the batch.
        ids: The row's ids.
        runs: (start, end) columns of every run of placeholders; at least one.
        first: Number of its first run among those of the whole batch.
    """

    row: int
    ids: list[int]
    runs: list[tuple[int, int]]
    first: int = 0

    def before(self, n: int) -> list[int]:
        """The ids between the run before and run `n`; from the row's start for the first one."""
        return self.ids[self.runs[n - 1][1] if n else 0 : self.runs[n][0]]

    def after(self, n: int) -> list[int]:
        """The ids between run `n` and the next one; to the row's end for the last one."""
        return self.before(n + 1) if n + 1 < len(self.runs) else self.ids[self.runs[n][1] :]

    def last(self) -> int:
        """The number of the last run."""
        return len(self.runs) - 1


def read_rows(ids: Tensor, places: Tensor) -> list[PromptRow]:
    """The rows of `ids` (b, L) that have placeholders, which `places` (b, L) marks."""
    rows: list[PromptRow] = []
    for number, (row, marks) in enumerate(zip(ids.tolist(), places.tolist(), strict=True)):
        runs, column = [], 0
        for is_placeholder, group in groupby(marks):
            start, column = column, column + sum(1 for _ in group)
            runs += [(start, column)] if is_placeholder else []
        first = rows[-1].first + len(rows[-1].runs) if rows else 0
        rows += [PromptRow(number, row, runs, first)] if runs else []
    return rows


# Each rule says for every run of a row whether an image starts with it, or None where the ids do not tell.
Starts = list[bool] | None


def starts_after_overview(row: PromptRow) -> Starts:
    """Idefics3's marks: a fence, then a mark, before every tile; the overview comes last, and a fence ends the image.

    The mark before the row's last run is the overview's, and every run with the same mark ends an image.
    """
    fence = row.after(row.last())[:1]
    marks = [_after_last(row.before(n), fence) for n in range(len(row.runs))]
    ends = [mark == marks[-1] for mark in marks]
    starts = [True, *ends[:-1]]
    return starts if all(marks) and _are_distinct(marks, starts) else None


def starts_at_first_tile(row: PromptRow) -> Starts:
    """Granite Docling's marks: as Idefics3's, but an image of one tile has no overview, and no fence ends it.

    The mark before the row's first run is that of every image's first tile. Marks are single ids.
    """
    fence, runs = row.before(0)[-2:-1], range(len(row.runs))
    marks = [row.before(n)[-1:] for n in runs]
    starts = [mark == marks[0] for mark in marks]
    lone = [is_start and is_last for is_start, is_last in zip(starts, [*starts[1:], True], strict=True)]
    ended = all(lone[n] or row.after(n)[:1] == fence for n, is_last in enumerate([*starts[1:], True]) if is_last)
    fenced = all(row.before(n)[-2:-1] == fence for n in runs)
    return starts if fence and fenced and ended and _are_distinct(marks, starts) else None


def starts_between_ends(row: PromptRow, is_control: Callable[[int], bool]) -> Starts:
    """Marks of an image's start and end, such as Aya Vision's; what stands between its tiles is neither."""
    end = row.after(row.last())[:1]
    starts = [n == 0 or row.before(n)[:1] == end for n in range(len(row.runs))]
    near = [set(filter(is_control, row.before(n)[-NEAR:])) for n, is_start in enumerate(starts) if is_start]
    tight = all(is_start or len(row.before(n)) <= NEAR for n, is_start in enumerate(starts))
    return starts if tight and end and is_control(end[0]) and set.intersection(*near) - set(end) else None


def starts_after_breaks(row: PromptRow, is_control: Callable[[int], bool]) -> Starts:
    """Command A Vision's marks: a line break after every tile, and marks of an image's start and end."""
    breaks = {tuple(row.after(n)[:1]) for n in range(len(row.runs))}
    starts = [n == 0 or len(row.before(n)) > 1 for n in range(len(row.runs))]
    first = {tuple(row.before(n)[-1:]) for n, is_start in enumerate(starts) if is_start}
    final = {tuple(row.after(n)[1:2]) for n, is_last in enumerate([*starts[1:], True]) if is_last}
    marks = [mark for marks in (breaks, first, final) for mark in marks]
    alike = len(marks) == 3 and all(mark and is_control(mark[0]) for mark in marks)
    return starts if alike else None


def starts_with(row: PromptRow, mark: int) -> Starts:
    """An image starts with a run that has this id between itself and the run before."""
    starts = [mark in row.before(n) for n in range(len(row.runs))]
    return starts if starts[0] else None


def starts_with_kind(row: PromptRow) -> Starts:
    """MiniCPM-V's marks: two ids around every overview, which comes first, and two others around every slice."""
    pairs = [(tuple(row.before(n)[-1:]), tuple(row.after(n)[:1])) for n in range(len(row.runs))]
    starts = [pair == pairs[0] for pair in pairs]
    marks = {mark for pair in pairs for mark in pair}
    tight = all(is_start or len(row.before(n)) <= SLICES for n, is_start in enumerate(starts))
    kinds = len(set(pairs))
    return starts if tight and kinds <= 2 and len(marks) == 2 * kinds and () not in marks else None


def _after_last(ids: Sequence[int], fence: Sequence[int]) -> list[int]:
    """The ids behind the last `fence` (one id, or none at all); empty where there is none."""
    at = [n for n, token in enumerate(ids) if [token] == list(fence)]
    return list(ids[at[-1] + 1 :]) if at else []


def _are_distinct(marks: Sequence[Sequence[int]], starts: Sequence[bool]) -> bool:
    """Whether no image has two tiles of the same mark."""
    seen: set[tuple[int, ...]] = set()
    for mark, is_start in zip(marks, starts, strict=True):
        seen = set() if is_start else seen
        if tuple(mark) in seen:
            return False
        seen.add(tuple(mark))
    return True
