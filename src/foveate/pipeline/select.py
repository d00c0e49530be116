"""How a budget is shared out: over a picture, over the frames of a clip, over all that one prompt shows.

A clip's tokens that repeat the same place of an earlier frame are never chosen: a standing picture costs one frame, and
what was meant for the others stays unspent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from foveate.errors import InputError, KeepError
from foveate.method import Method
from foveate.method.budget import to_budget
from foveate.method.checks import is_int
from foveate.method.scoring import score_peaked_tokens
from foveate.method.tokens import VisualTokens, unit_rows

Per = Literal["image", "frame", "prompt"]
REPEATS = 0.98  # cosine to the last token of the same place that counted, from which on a token tells nothing new


@dataclass(frozen=True, eq=False)
class Subject:
    """What is chosen from: the tokens of one picture, clip or sound; those marked `fixed` (n,) stay anyway.

    `row` is its row of the batch; where `whole`, all of it stays.
    """

    row: int
    tokens: VisualTokens
    fixed: Tensor | None = None
    whole: bool = False


@dataclass(frozen=True, eq=False)
class Choice:
    """The kept tokens (k,), ascending, fixed ones included, and what they hold, as `Method.merge_weights` says: (k, n).

    Where that was asked for, `relevance` (n,) is the method's own map in float32, NaN for tokens that it did not choose
    from (fixed ones, repeats of an earlier frame), or None where it has no map or chose nothing; `core` (k,) marks
    those of `kept` that are there for their relevance.
    """

    kept: Tensor
    mix: Tensor | None = None
    relevance: Tensor | None = None
    core: Tensor | None = None


def check_per(per: str) -> None:
    """Raise `InputError` unless this is a way to share out a budget."""
    if per not in ("image", "frame", "prompt"):
        raise InputError(f'per={per!r} is unknown: use "image", "frame" or "prompt".')


def choose(
    subjects: Sequence[Subject], method: Method, keep: int | float, per: Per = "image", *, explain: bool = False
) -> list[Choice]:
    """What to keep of every subject.

    `keep` counts (an int) or is a share (a float) of a whole picture or clip with per="image", of every frame with
    "frame", and of all that a row of the batch shows with "prompt": then half of it goes by the subjects' sizes, half
    to where the tokens most relevant to the question are, and each subject gets one token at least. `explain` asks for
    the relevance and the core of every choice, which cost the method another pass or two over the tokens.

    Raises `KeepError` where "prompt" leaves a subject without a token.
    """
    everything = not is_int(keep) and keep == 1
    budgets: dict[int, int] = {}
    if per == "prompt" and not everything:
        for row in sorted({s.row for s in subjects}):
            own = [n for n, s in enumerate(subjects) if s.row == row and not s.whole and bool(_free(s).any())]
            budgets.update(zip(own, _shared([subjects[n] for n in own], keep, row), strict=True))
    parts = []
    for number, subject in enumerate(subjects):
        if everything or subject.whole:
            continue
        new, free = ~repeats(subject.tokens), _free(subject)
        for where in _frames(subject.tokens) if per == "frame" else [slice(0, len(subject.tokens.embeds))]:
            size = int(free[where].sum())
            if size:
                k = budgets[number] if per == "prompt" else to_budget(keep, size)
                parts += _part(number, subject.tokens, where, (free & new)[where], k)
    kept = method.select_many([part.tokens for part in parts], [part.k for part in parts])
    held: dict[int, list[_Held]] = {}
    for part, indices in zip(parts, kept, strict=True):
        mix = method.merge_weights(part.tokens, indices)
        relevance = method.relevance_map(part.tokens) if explain else None
        core = method.core_mask(part.tokens, indices) if explain else None
        held.setdefault(part.subject, []).append(_Held(part.among[indices], part.among, mix, relevance, core))
    choices = [
        Choice(torch.arange(len(subject.tokens.embeds), device=subject.tokens.embeds.device))
        if everything or subject.whole
        else _joined(subject, held.get(number, []))
        for number, subject in enumerate(subjects)
    ]
    if not explain:
        return choices
    return [_explained(s, choice, held.get(n, [])) for n, (s, choice) in enumerate(zip(subjects, choices, strict=True))]


def repeats(tokens: VisualTokens) -> Tensor:
    """(n,): tokens of a clip whose place looks as it did when it last changed, by more than `REPEATS` in cosine."""
    marked = torch.zeros(len(tokens.embeds), dtype=torch.bool, device=tokens.embeds.device)
    if tokens.grid is None or tokens.grid[0] == 1:
        return marked
    frames, marks = (rows.unflatten(0, (tokens.grid[0], -1)) for rows in (tokens.embeds, marked))
    last = unit_rows(frames[0])
    for frame, mark in zip(frames[1:], marks[1:], strict=True):
        unit = unit_rows(frame)
        mark |= (unit * last).sum(-1) > REPEATS
        last = torch.where(mark[:, None], last, unit)
    return marked


def _free(subject: Subject) -> Tensor:
    n, device = len(subject.tokens.embeds), subject.tokens.embeds.device
    everything = torch.ones(n, dtype=torch.bool, device=device)
    return everything if subject.fixed is None else everything & ~subject.fixed.to(device)


def _frames(tokens: VisualTokens) -> list[slice]:
    if tokens.grid is None:
        return [slice(0, len(tokens.embeds))]
    size = tokens.grid[1] * tokens.grid[2]
    return [slice(start, start + size) for start in range(0, len(tokens.embeds), size)]


@dataclass(frozen=True, eq=False)
class _Part:
    """Some tokens of a subject that k are to be chosen from; `among` are their places among all of its tokens."""

    subject: int
    tokens: VisualTokens
    among: Tensor
    k: int


@dataclass(frozen=True, eq=False)
class _Held:
    """What was kept of a part: places among the subject's tokens, the part's own places, and the mix between them.

    Where explained, the relevance of the part's own places and which of the kept ones are core.
    """

    kept: Tensor
    among: Tensor
    mix: Tensor | None
    relevance: Tensor | None = None
    core: Tensor | None = None


def _part(number: int, tokens: VisualTokens, where: slice, candidates: Tensor, k: int) -> list[_Part]:
    """At most `k` of the candidates among the tokens at `where`; nothing where there is none."""
    among = candidates.nonzero().squeeze(1) + where.start
    return [_Part(number, _subset(tokens, among), among, min(k, len(among)))] if len(among) else []


def _subset(tokens: VisualTokens, places: Tensor) -> VisualTokens:
    """These tokens alone; they have a grid where they are whole frames."""
    if len(places) == len(tokens.embeds):
        return tokens
    grid = None
    if tokens.grid is not None:
        size = tokens.grid[1] * tokens.grid[2]
        count = len(places) // size
        if count and len(places) == count * size and int(places[-1] - places[0]) == len(places) - 1:
            grid = (count, *tokens.grid[1:]) if int(places[0]) % size == 0 else None
    return tokens.subset(places, grid)


def _joined(subject: Subject, parts: Sequence[_Held]) -> Choice:
    n, device = len(subject.tokens.embeds), subject.tokens.embeds.device
    stays = torch.zeros(n, dtype=torch.bool, device=device) if subject.fixed is None else subject.fixed.to(device)
    stays = stays.clone()
    for part in parts:
        stays[part.kept] = True
    kept = stays.nonzero().squeeze(1)
    if all(part.mix is None for part in parts):
        return Choice(kept)
    mix = torch.zeros(len(kept), n, device=device)
    mix.scatter_(1, kept[:, None], 1.0)  # each holds itself, unless a method says otherwise
    for part in parts:
        if part.mix is not None:
            mix[torch.searchsorted(kept, part.kept)[:, None], part.among[None]] = part.mix
    return Choice(kept, mix)


def _explained(subject: Subject, choice: Choice, parts: Sequence[_Held]) -> Choice:
    """The choice, and why: relevance and core of its parts, put together."""
    n, kept = len(subject.tokens.embeds), choice.kept
    relevance, core = torch.full((n,), torch.nan, device=kept.device), torch.zeros_like(kept, dtype=torch.bool)
    for part in parts:
        if part.relevance is not None:
            relevance[part.among] = part.relevance
        if part.core is not None:
            core[torch.searchsorted(kept, part.kept)] = part.core
    known = any(part.relevance is not None for part in parts)
    return replace(choice, relevance=relevance if known else None, core=core)


def _shared(subjects: Sequence[Subject], keep: int | float, row: int) -> list[int]:
    """How many tokens each subject of one row gets of a budget for them all."""
    free = [_free(subject) for subject in subjects]
    sizes = [int(f.sum()) for f in free]
    if not sizes:
        return []
    total = to_budget(keep, sum(sizes))
    if total < len(sizes):
        raise KeepError(
            f"keep={keep} leaves {total} tokens for the {len(sizes)} pictures of row {row}, and each needs one: "
            'raise keep, or use per="image".'
        )
    embeds = torch.cat([subject.tokens.embeds[f] for subject, f in zip(subjects, free, strict=True)])
    flat = score_peaked_tokens(embeds, subjects[0].tokens.question)
    if float(flat.amax() - flat.amin()) == 0:
        wanted = [Fraction(size * total, sum(sizes)) for size in sizes]
    else:
        top = torch.zeros_like(flat)
        top[flat.topk(total).indices] = 1
        counts = [int(part.sum()) for part in top.split(sizes)]
        wanted = [(Fraction(size * total, sum(sizes)) + c) / 2 for size, c in zip(sizes, counts, strict=True)]
    return apportion(wanted, sizes, total)


def apportion(wanted: Sequence[Fraction], sizes: Sequence[int], total: int) -> list[int]:
    """Whole numbers near `wanted`, each from 1 to its size, that sum to `total`: by the largest remainders."""
    given = [min(max(math.floor(want), 1), size) for want, size in zip(wanted, sizes, strict=True)]
    while sum(given) != total:
        step = 1 if sum(given) < total else -1
        able = [n for n, size in enumerate(sizes) if (given[n] < size if step > 0 else given[n] > 1)]
        best = max(able, key=lambda n: (step * (wanted[n] - given[n]), -n))
        given[best] += step
    return given
