"""One image, video or audio of a batch, from the encoder to the report, and how its tokens lie on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Tile:
    """Tokens that lie over a whole image, one of its tiles or one frame, in `rows` x `columns` equal cells.

    Args:
        start: Index of the first one among the visual input's tokens.
        rows: Number of rows of cells.
        columns: Number of cells in a row.
        step: Distance between the first tokens of two rows: `columns`, or more where a row ends in protected tokens.
        padded: Whether the image lies in the middle of a square.
        overview: Whether these tokens show the whole image beside its tiles.
    """

    start: int
    rows: int
    columns: int
    step: int
    padded: bool = False
    overview: bool = False

    def tokens(self) -> list[int]:
        """The indices of its tokens, row by row."""
        return [self.start + row * self.step + column for row in range(self.rows) for column in range(self.columns)]


Tiles = tuple[Tile, ...]


@dataclass(frozen=True, eq=False, repr=False)
class VisualInput:
    """One image, video or audio of one row of the batch: its visual tokens and, after selection, which were kept.

    Args:
        modality: "image", "video" or "audio".
        row: Row of the batch.
        columns: (n,) columns of its placeholders in that row; empty where the language model attends across to it.
        first: Column where it stands in the prompt.
        total: Number n of its visual tokens.
        embeds: (n, d) visual tokens, without those that are absent; emptied to (0, d) in a report, which must not keep
            them in memory.
        kept: (k,) ascending indices of the kept tokens; all of them before selection.
        index: Which of the batch's images (or videos, or audios) it is, in reading order.
        grid: (t, h, w) of the tokens in raster order, None where they form no raster.
        protected: (n,) bool, tokens that always stay, such as the ends of rows; None where there are none.
        extras: More of what methods read, by the names of `VisualTokens`' fields.
        tiles: How the tokens lie over the image, its tiles or its frames; empty where that is not known.
        is_part: Whether it may be one tile of an image whose tiles cannot be told apart from other images.
        merge_weights: (k, n) weights by which kept tokens merge others; None where each keeps its own value.
        pooled_into: (n,) the place in `kept` of the token whose mean each token is part of, -1 for absent ones; None
            without pooling.
        relevance: With `explain=True` (n,) the method's relevance in float32, NaN for tokens that it did not choose
            from; None where the method has no relevance or nothing was selected.
        core: With `explain=True` (k,) bool, which kept tokens are there for their relevance.
        look: (g,) ascending indices of the tokens of the first look, or of those around which it saw averages; None
            without one.
        attention: (n,) how much the prompt's last token attended to the tokens of the look, spread over their
            neighbours; None without a first look.
        keep: The share of the tokens that a policy or `Recency` chose for it; None without them.
        reason: Why, in a sentence.
        retry_below: The log-odds of the first token below which a policy answers again; None without a retry.
        encoded: For each tile or window that the encoder sees, in its order, whether it was encoded; empty where all
            were.
        encoded_share: The share of the image that went through the encoder, a glance at a smaller image included.
        absent: (n,) bool, the tokens of which nothing was encoded; None where there are none.
        glanced: (n,) bool, the places of tokens that show a part of a smaller image; None without one.
    """

    modality: str
    row: int
    columns: Tensor
    first: int
    total: int
    embeds: Tensor
    kept: Tensor
    index: int = 0
    grid: Grid | None = None
    protected: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    tiles: Tiles = ()
    is_part: bool = False
    merge_weights: Tensor | None = None
    pooled_into: Tensor | None = None
    relevance: Tensor | None = None
    core: Tensor | None = None
    look: Tensor | None = None
    attention: Tensor | None = None
    keep: float | None = None
    reason: str = ""
    retry_below: float | None = None
    encoded: tuple[bool, ...] = ()
    encoded_share: float = 1.0
    absent: Tensor | None = None
    glanced: Tensor | None = None

    def __repr__(self) -> str:
        """What and where it is, in one line: its tensors are long."""
        kept = f"{len(self.kept)} of {self.total} tokens kept"
        return f"<{type(self).__name__} {self.modality} {self.index} in row {self.row}: {kept}>"

    @property
    def free(self) -> Tensor:
        """(n,) bool: the tokens that are not protected."""
        every = torch.ones(self.total, dtype=torch.bool, device=self.embeds.device)
        return every if self.protected is None else every & ~self.protected.to(every.device)

    @property
    def selectable(self) -> Tensor:
        """(n,) bool: the tokens that are neither protected nor absent."""
        return self.free if self.absent is None else self.free & ~self.absent

    @property
    def always_kept(self) -> Tensor:
        """(n,) bool: the protected tokens."""
        return ~self.free if self.absent is None else ~self.free & ~self.absent

    @property
    def present(self) -> Tensor:
        """Ascending indices of the tokens that are not absent: those of the rows of `embeds`."""
        there = torch.ones(self.total, dtype=torch.bool) if self.absent is None else ~self.absent
        return there.nonzero().squeeze(1)

    def find_rows(self, tokens: Tensor) -> Tensor:
        """The rows of `embeds` that hold these tokens (k,), none of which is absent."""
        return tokens if self.absent is None else torch.searchsorted(self.present.to(tokens.device), tokens)

    def without_embeds(self) -> VisualInput:
        """The same record for a report: without the visual tokens, the extras and the merge weights."""
        return replace(self, embeds=self.embeds.detach()[:0].clone(), extras={}, merge_weights=None)


def make_visual_input(
    modality: str, row: int, columns: Tensor, first: int, embeds: Tensor, protected: Tensor | None = None,
    absent: Tensor | None = None,
) -> VisualInput:  # fmt: skip
    """A visual input before selection: all of its tokens (n,) are kept, but for those that are absent.

    `embeds` and `protected` are those of the tokens that are kept.
    """
    if absent is None:
        kept = torch.arange(len(embeds), device=embeds.device)
        return VisualInput(modality, row, columns, first, len(embeds), embeds, kept, protected=protected)
    kept = (~absent).nonzero().squeeze(1)
    marks = None if protected is None else torch.zeros_like(absent).index_copy(0, kept, protected.to(kept.device))
    return VisualInput(modality, row, columns, first, len(absent), embeds, kept, protected=marks, absent=absent)


def mark_absent(item: VisualInput) -> VisualInput:
    """The item before selection, without the tokens whose embeddings are NaN: nothing was encoded there."""
    absent = item.embeds.detach()[:, 0].isnan()
    if not bool(absent.any()):
        return item
    kept = (~absent).nonzero().squeeze(1)
    return replace(item, absent=absent, kept=kept, embeds=item.embeds[kept])


def tile_frames(grid: Grid, protected: Tensor | None = None) -> Tiles:
    """One tile for every frame of a grid, without its last column where that is `protected` (n,)."""
    t, rows, width = grid
    ends = protected is not None and width > 1 and bool(protected.view(grid)[..., -1].all())
    return tuple(Tile(frame * rows * width, rows, width - ends, width) for frame in range(t))


def tile_squares(count: int, side: int) -> Tiles:
    """`count` square tiles, one after the other."""
    return tuple(Tile(number * side**2, side, side, side) for number in range(count))


def find_runs(protected: Tensor) -> list[tuple[int, int]]:
    """(start, end) of every run of tokens that are not `protected` (n,)."""
    edges = torch.nn.functional.pad((~protected).int(), (1, 1)).diff()
    starts, ends = ((edges == step).nonzero().squeeze(1).tolist() for step in (1, -1))
    return list(zip(starts, ends, strict=True))


def tile_runs(runs: Sequence[tuple[int, int]]) -> Tiles:
    """One tile whose rows are these (start, end) runs; empty where they differ in length or in distance."""
    lengths, steps = {end - start for start, end in runs}, {b[0] - a[0] for a, b in pairwise(runs)}
    if len(lengths) != 1 or len(steps) > 1:
        return ()
    columns = lengths.pop()
    return (Tile(runs[0][0], len(runs), columns, steps.pop() if steps else columns),)


def tile_rows(protected: Tensor | None) -> Tiles:
    """One tile whose rows each end in `protected` (n,) tokens; empty where there are none, or where rows differ."""
    return () if protected is None else tile_runs(find_runs(protected))
