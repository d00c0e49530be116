"""Step 3: how many tokens to keep of each image, of each frame of a video, or of all that one prompt shows.

Tokens of a video that are the same as those of an earlier frame at the same place are no candidates: a still video
costs one frame, and the budget of the other frames stays unspent.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from foveate.errors import InputError, KeepError
from foveate.method.budget import to_budget
from foveate.method.checks import is_int
from foveate.method.scoring import score_peaked_tokens
from foveate.method.tokens import unit_rows
from foveate.models.visual_input import VisualInput
from foveate.pipeline.settings import PruneSettings

REPEATS = 0.9999  # cosine above which a token is the same as its last distinct predecessor; 0.99 costs right answers


@dataclass(frozen=True, eq=False)
class Share:
    """A part of the budget: `k` tokens to select from the `candidates` (c,), ascending tokens of item `item`."""

    item: int
    candidates: Tensor
    k: int


def allocate_budget(
    items: Sequence[VisualInput], questions: Mapping[int, Tensor], settings: PruneSettings
) -> list[Share]:
    """The shares of the budget, in the order of the items; an item without a share keeps all of its tokens.

    `settings.keep` counts (an int) or is a share (a float) of a whole image or video with per="image", of every frame
    with "frame", and of all that a row of the batch shows with "prompt": then half of it goes by the items' sizes, half
    to where the tokens most relevant to the question are, and each item gets one token at least. An item with a `keep`
    of its own has that share.

    Raises:
        KeepError: "prompt" leaves an item without a token, or `keep` counts tokens of images that cannot be told apart.
        InputError: "frame" where the frames of a video cannot be told apart.
    """
    keep, per = settings.keep, settings.per
    if per == "frame" and any(item.modality == "video" and item.grid is None for item in items):
        raise InputError('The frames of this model\'s videos cannot be told apart: use per="image".')
    if settings.is_whole:
        return []
    pruned = [n for n, item in enumerate(items) if item.modality in settings.modalities and item.keep != 1]
    if is_int(keep) and per != "prompt" and any(items[n].is_part for n in pruned):
        raise KeepError(
            f"keep={keep} counts tokens per image, and nothing in these inputs tells which tiles are one image: "
            'use a share (keep=0.1) or per="prompt".'
        )
    totals = _allocate_rows(items, pruned, questions, keep) if per == "prompt" else {}
    shares = []
    for n in pruned:
        selectable, fresh = items[n].selectable, ~find_repeats(items[n])
        counted = _count_for(items[n], settings)
        for part in _frame_slices(items[n]) if per == "frame" else [slice(0, items[n].total)]:
            size = int(counted[part].sum())
            candidates = (selectable & fresh)[part].nonzero().squeeze(1) + part.start
            if len(candidates):
                k = totals[n] if per == "prompt" else to_budget(_read_keep(items[n], keep), size)
                shares.append(Share(n, candidates, min(k, len(candidates))))
    return shares


def _read_keep(item: VisualInput, keep: int | float) -> int | float:
    return keep if item.keep is None else item.keep


def _count_for(item: VisualInput, settings: PruneSettings) -> Tensor:
    """(n,): the tokens that `keep` is a share of: of the whole image, also where only a part was encoded."""
    return item.selectable if settings.encodes_all else item.free  # a first look is at what there is


def find_repeats(item: VisualInput) -> Tensor:
    """(n,): tokens of a video whose place looks as when it last changed, by a cosine above `REPEATS`."""
    marked = torch.zeros(item.total, dtype=torch.bool, device=item.embeds.device)
    if item.modality != "video" or item.grid is None or item.grid[0] == 1:
        return marked
    absent = marked if item.absent is None else item.absent
    embeds = item.embeds.detach()
    if item.absent is not None:
        embeds = embeds.new_zeros(item.total, embeds.shape[1]).index_copy(0, item.present.to(embeds.device), embeds)
    frames, marks, gaps = (rows.unflatten(0, (item.grid[0], -1)) for rows in (embeds, marked, absent))
    last = unit_rows(frames[0])
    for frame, mark, gap in zip(frames[1:], marks[1:], gaps[1:], strict=True):
        unit = unit_rows(frame)
        mark |= gap | ((unit * last).sum(-1) > REPEATS)
        last = torch.where(mark[:, None], last, unit)
    return marked


def _frame_slices(item: VisualInput) -> list[slice]:
    if item.grid is None:
        return [slice(0, item.total)]
    size = item.grid[1] * item.grid[2]
    return [slice(start, start + size) for start in range(0, item.total, size)]


def _allocate_rows(
    items: Sequence[VisualInput], pruned: Sequence[int], questions: Mapping[int, Tensor], keep: int | float
) -> dict[int, int]:
    """How many tokens each pruned item that has selectable ones gets of its row's budget."""
    totals: dict[int, int] = {}
    for row in sorted({items[n].row for n in pruned}):
        own = [n for n in pruned if items[n].row == row and bool(items[n].selectable.any())]
        if own:
            totals.update(zip(own, _allocate_row([items[n] for n in own], questions[row], keep, row), strict=True))
    return totals


def _allocate_row(items: Sequence[VisualInput], question: Tensor, keep: int | float, row: int) -> list[int]:
    selectable = [item.selectable for item in items]
    sizes = [int(mask.sum()) for mask in selectable]
    total = min(to_budget(keep, sum(int(item.free.sum()) for item in items)), sum(sizes))
    if total < len(sizes):
        raise KeepError(
            f"keep={keep} leaves {total} tokens for the {len(sizes)} images of row {row}, and each needs one: "
            'raise keep, or use per="image".'
        )
    rows = [item.find_rows(mask.nonzero().squeeze(1)) for item, mask in zip(items, selectable, strict=True)]
    embeds = torch.cat([item.embeds.detach()[own] for item, own in zip(items, rows, strict=True)])
    relevance = score_peaked_tokens(embeds, question.to(embeds.device, embeds.dtype))
    wanted = [Fraction(size * total, sum(sizes)) for size in sizes]
    if float(relevance.amax() - relevance.amin()) > 0:
        top = torch.zeros_like(relevance)
        top[relevance.topk(total).indices] = 1
        counts = [int(part.sum()) for part in top.split(sizes)]
        wanted = [(share + count) / 2 for share, count in zip(wanted, counts, strict=True)]
    return apportion(wanted, sizes, total)


def apportion(wanted: Sequence[Fraction], sizes: Sequence[int], total: int) -> list[int]:
    """Integers near `wanted`, each from 1 to its size, that sum to `total`: by the largest remainders."""
    counts = [min(max(math.floor(want), 1), size) for want, size in zip(wanted, sizes, strict=True)]
    while sum(counts) != total:
        step = 1 if sum(counts) < total else -1
        able = [n for n, size in enumerate(sizes) if (counts[n] < size if step > 0 else counts[n] > 1)]
        best = max(able, key=lambda n: (step * (wanted[n] - counts[n]), -n))
        counts[best] += step
    return counts
