"""Ways to remember a stream in so many tokens, each of which sees the tokens of one frame after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foveate.method.foveate import Foveate
from foveate.method.memory import StreamSettings, TokenMemory
from foveate.method.tokens import VisualTokens, unit_rows
from foveate.pipeline.budget import REPEATS

GRID = (1, 12, 12)
SIZE = 144
SHORT, MIDDLE = 2, 8  # frames of the first two tiers of the rival with three


@dataclass(frozen=True, eq=False)
class HeldFrame:
    """What is remembered of a frame: tokens (c, d), the cells they stand at, and the cells that each was made of.

    `sources` (n,) has for every cell of the frame the number of its token, -1 for none.
    """

    indices: Tensor
    rows: Tensor
    sources: Tensor


State = Mapping[int, HeldFrame]
Arm = Callable[[Sequence[Tensor], Sequence[int]], list[State]]
"""From the tokens of all frames, and the numbers of frames after which a question comes, to what is there then."""


def keep_cells(rows: Tensor, indices: Tensor) -> HeldFrame:
    """Some cells of a frame, each with its own token."""
    sources = torch.full((len(rows),), -1)
    sources[indices] = torch.arange(len(indices))
    return HeldFrame(indices, rows[indices], sources)


def keep_whole(rows: Tensor) -> HeldFrame:
    """A whole frame."""
    return keep_cells(rows, torch.arange(len(rows)))


def thin(rows: Tensor, count: int) -> HeldFrame:
    """A spread choice of a frame's tokens, without a question."""
    return keep_cells(rows, Foveate().blind.select(VisualTokens(rows, rows[:0], GRID), count))


def remember(settings: StreamSettings) -> Arm:
    """The memory of `Session`."""

    def run(frames: Sequence[Tensor], moments: Sequence[int]) -> list[State]:
        memory, states = TokenMemory(settings, REPEATS), list[State]()
        for number, rows in enumerate(frames):
            memory.add(number, {"embeds": rows}, GRID, is_same_view=True)
            if number + 1 in moments:
                states.append({each.frame: keep_cells(frames[each.frame], each.indices) for each in memory.frames})
        return states

    return run


def keep_uniform(tokens: int, share: float) -> Arm:
    """Frames spread evenly over all so far, the newest among them, of each this share."""

    def run(frames: Sequence[Tensor], moments: Sequence[int]) -> list[State]:
        each = int(SIZE * share)
        states = []
        for moment in moments:
            count = min(moment, tokens // each)
            numbers = sorted({round(n * (moment - 1) / max(1, count - 1)) for n in range(count)})
            states.append({n: thin(frames[n], each) if each < SIZE else keep_whole(frames[n]) for n in numbers})
        return states

    return run


def keep_newest(tokens: int) -> Arm:
    """The last frames, whole."""

    def run(frames: Sequence[Tensor], moments: Sequence[int]) -> list[State]:
        return [{n: keep_whole(frames[n]) for n in range(max(0, m - tokens // SIZE), m)} for m in moments]

    return run


def keep_all(frames: Sequence[Tensor], moments: Sequence[int]) -> list[State]:
    """Everything."""
    whole = [keep_whole(rows) for rows in frames]
    return [dict(enumerate(whole[:moment])) for moment in moments]


def drop_oldest(tokens: int) -> Arm:
    """What changed from frame to frame, the oldest of it dropped where there is no room."""

    def run(frames: Sequence[Tensor], moments: Sequence[int]) -> list[State]:
        cells, anchor = list[HeldFrame](), unit_rows(frames[0])
        for number, rows in enumerate(frames):
            units = unit_rows(rows)
            changed = (units * anchor).sum(-1) <= REPEATS if number else torch.ones(SIZE, dtype=torch.bool)
            anchor = torch.where(changed[:, None], units, anchor)
            cells.append(keep_cells(rows, changed.nonzero().squeeze(1)))
        return [_take_newest(dict(enumerate(cells[:moment])), tokens) for moment in moments]

    return run


def keep_tiers(tokens: int) -> Arm:
    """Three tiers by age, after FluxMem (arXiv 2603.02096): whole, without repeats, and merged; the oldest drop out.

    In the second tier goes a token whose cosine distances to its place in the frames before and after are both below a
    threshold, in the third also neighbours in a frame that are nearer than one become their mean; each frame has its
    thresholds by Otsu's method. Written from the paper's description. What differs: the paper compares with a
    neighbourhood of places, and bounds nothing; here the oldest frames drop out at so many tokens.
    """

    def run(frames: Sequence[Tensor], moments: Sequence[int]) -> list[State]:
        units = [unit_rows(rows) for rows in frames]
        middle, old = dict[int, HeldFrame](), dict[int, HeldFrame]()
        states = []
        for moment in moments:
            state: dict[int, HeldFrame] = {}
            count = 0
            for number in range(moment - 1, -1, -1):
                age = moment - 1 - number
                if age < SHORT:
                    state[number] = keep_whole(frames[number])
                elif age < SHORT + MIDDLE:
                    state[number] = middle.setdefault(number, _drop_still(frames, units, number))
                else:
                    if number not in old:
                        old[number] = _merge_alike(
                            middle.get(number) or _drop_still(frames, units, number), units[number]
                        )
                    state[number] = old[number]
                count += len(state[number].indices)
                if count >= tokens:
                    break
            states.append(_take_newest(state, tokens))
        return states

    return run


def _take_newest(state: State, tokens: int) -> State:
    """The newest frames that fit; of the last one that does not, nothing."""
    taken: dict[int, HeldFrame] = {}
    for number in sorted(state, reverse=True):
        tokens -= len(state[number].indices)
        if tokens < 0:
            break
        if len(state[number].indices):
            taken[number] = state[number]
    return taken


def _drop_still(frames: Sequence[Tensor], units: Sequence[Tensor], number: int) -> HeldFrame:
    """A frame without what is as in the frames before and after."""
    near = [other for other in (number - 1, number + 1) if 0 <= other < len(frames)]
    distance = torch.stack([1 - (units[number] * units[other]).sum(-1) for other in near]).amax(0)
    return keep_cells(frames[number], (distance > find_threshold(distance)).nonzero().squeeze(1))


def _merge_alike(frame: HeldFrame, units: Tensor) -> HeldFrame:
    """Neighbours that are nearer than the frame's threshold as their mean, where the first of them stands."""
    places = frame.indices.tolist()
    pairs = [(a, b) for a in places for b in (a + 1, a + GRID[2]) if b in places and (b != a + 1 or b % GRID[2])]
    if not pairs:
        return frame
    distance = torch.stack([1 - units[a] @ units[b] for a, b in pairs])
    limit, parent = find_threshold(distance), {place: place for place in places}

    def find(place: int) -> int:
        while parent[place] != place:
            place = parent[place]
        return place

    for (a, b), apart in zip(pairs, distance.tolist(), strict=True):
        if apart <= limit:
            one, other = sorted((find(a), find(b)))
            parent[other] = one
    roots = sorted({find(place) for place in places})
    groups = torch.tensor([roots.index(find(place)) for place in places])
    sources = torch.full((SIZE,), -1)
    sources[frame.indices] = groups
    rows = torch.stack([frame.rows[groups == n].mean(0) for n in range(len(roots))])
    return HeldFrame(torch.tensor(roots), rows, sources)


def find_threshold(values: Tensor) -> float:
    """Otsu's: the border of two classes whose means differ most, weighted by their sizes."""
    ordered = values.double().sort().values
    n, total = len(ordered), ordered.cumsum(0)
    if n < 2:
        return float(ordered[0])
    sizes = torch.arange(1, n)
    low, high = total[:-1] / sizes, (total[-1] - total[:-1]) / (n - sizes)
    return float(ordered[int((sizes * (n - sizes) * (low - high) ** 2).argmax())])
