"""Slow, obvious references: plain Python loops in double precision, straight from the papers' formulas.

Written from the formulas alone and sharing nothing with the shipped rules but what is documented there: what is a tie
(`TIE`, `COVER_TIE`), that ties go to the lowest index, and when a DPP has run out of rank (`SPENT`).

`Margin` keeps the closest call of a run: how near any candidate came to the border between "tie" and "no tie" (or
between "spent" and "not spent"). Where that is within the rounding of float32 the indices are a matter of luck.
"""

import itertools
import math

import numpy as np

TIE, COVER_TIE, SPENT = 1e-6, 1e-5, 1e-5


class Margin:
    def __init__(self):
        self.closest = math.inf

    def first(self, values, slacks, free):
        """The lowest free index whose value is within its slack of the best."""
        best = max(values[j] for j in free)
        for j in free:
            self.closest = min(self.closest, abs(values[j] + slacks[j] - best) / max(slacks[j], 1e-300))
        return min(j for j in free if values[j] + slacks[j] >= best)

    def above(self, value, border):
        """The value, or 0 up to the border."""
        self.closest = min(self.closest, abs(value - border) / max(border, 1e-300))
        return value if value > border else 0.0

    def ranked(self, scores, free):
        """Best first; a run of neighbours in that order, each within TIE of the next, goes by index."""
        order = sorted(free, key=lambda j: -scores[j])
        runs = []
        for j in order:
            if runs and scores[runs[-1][-1]] - scores[j] <= TIE:
                runs[-1].append(j)
            else:
                runs.append([j])
            if len(runs[-1]) > 1 or len(runs) > 1:
                previous = runs[-1][-2] if len(runs[-1]) > 1 else runs[-2][-1]
                self.closest = min(self.closest, abs(scores[previous] - scores[j] - TIE) / TIE)
        return [j for run in runs for j in sorted(run)]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def cos(a, b):
    length = math.hypot(*a) * math.hypot(*b)
    return dot(a, b) / length if length else 0.0


def mean(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def relevance(kind, v, e):
    if not e:
        return [0.0] * len(v)
    if kind == "pooled":
        return [cos(v_i, mean(e)) for v_i in v]
    per_word = [[cos(v_i, e_t) for e_t in e] for v_i in v]
    return [sum(row) / len(row) if kind == "word_mean" else max(row) for row in per_word]


def farthest(v, k, selected, margin):
    n = len(v)
    similarity = [[cos(v[i], v[j]) for j in range(n)] for i in range(n)]
    new = []
    for _ in range(k):
        free = [j for j in range(n) if j not in selected and j not in new]
        against = {j: [i for i in (*selected, *new) if i != j] or [i for i in range(n) if i != j] for j in free}
        values = {j: -max((similarity[j][i] for i in against[j]), default=-math.inf) for j in free}
        new.append(margin.first(values, dict.fromkeys(free, TIE), free))
    return new


def divprune(v, e, k, selected, margin):
    return farthest(v, k, list(selected), margin)


def zspaprune(v, e, k, selected, margin, tenths=6, kind="pooled"):
    scores = relevance(kind, v, e)
    core_size = tenths * k // 10
    if max(scores) - min(scores) <= TIE:
        core_size = 0
    core = margin.ranked(scores, [j for j in range(len(v)) if j not in selected])[:core_size] if core_size else []
    return core + farthest(v, k - core_size, [*selected, *core], margin)


def cdpruner(v, e, k, selected, margin):
    n = len(v)
    x = relevance("pooled", v, e)
    low, high = min(x), max(x)
    r = [(x_i - low + 1e-6) / (high - low) if high - low > TIE else 1.0 for x_i in x]
    kernel = [[r[i] * cos(v[i], v[j]) * r[j] for j in range(n)] for i in range(n)]
    d = [kernel[i][i] for i in range(n)]
    rows, new, order = [], [], None
    for step in range(len(selected) + k):
        if step < len(selected):
            j = selected[step]
        else:
            free = [i for i in range(n) if i not in selected and i not in new]
            margin.closest = min([margin.closest, *(abs(d[i] / r[i] ** 2 - SPENT) / SPENT for i in free)])
            alive = [i for i in free if d[i] / r[i] ** 2 > SPENT]
            if alive:
                j = margin.first(d, [TIE * r_i**2 for r_i in r], alive)
            else:
                order = order or margin.ranked(r, range(n))
                j = next(i for i in order if i in free)
            new.append(j)
        if d[j] / r[j] ** 2 > SPENT:
            root = math.sqrt(d[j])
            c = [(kernel[j][i] - sum(row[j] * row[i] for row in rows)) / root for i in range(n)]
            rows.append(c)
            d = [d_i - c_i**2 for d_i, c_i in zip(d, c, strict=True)]
    return new


def softmax(values):
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    total = sum(powers)
    return [power / total for power in powers]


def mmtok(v, e, k, selected, margin, alpha=0.5, tau_v=0.2, tau_t=0.02):
    n, m = len(v), len(e)
    rows = [[p / m for p in softmax([cos(e_t, v_i) / tau_t for v_i in v])] for e_t in e]
    rows += [[alpha * q / n for q in softmax([cos(v_i, v_j) / tau_v for v_j in v])] for v_i in v]
    slacks = [COVER_TIE * sum(row[j] for row in rows) for j in range(n)]
    new = []
    for _ in range(k):
        free = [j for j in range(n) if j not in selected and j not in new]
        best = [max((row[i] for i in (*selected, *new)), default=0.0) for row in rows]
        extra = {j: sum(row[j] - b for row, b in zip(rows, best, strict=True) if row[j] > b) for j in free}
        gains = {j: margin.above(extra[j], slacks[j]) for j in free}
        new.append(margin.first(gains, slacks, free))
    return new


# The methods below also read what the vision tower knows: h (n, d_v) its tokens, a (n,) its [CLS] attention, keys.


def salience(a):
    return [a_i * len(a) / sum(a) if sum(a) > 0 else 1.0 for a_i in a]


def scope(v, e, k, selected, margin, h, a, alpha=1.0):
    n = len(h)
    w = [s**alpha for s in salience(a)]
    cover = [[max(0.0, cos(h[i], h[j])) for j in range(n)] for i in range(n)]
    columns = [sum(column) for column in zip(*cover, strict=True)]
    slacks = [COVER_TIE * columns[j] * w[j] for j in range(n)]
    new = []
    for _ in range(k):
        free = [j for j in range(n) if j not in selected and j not in new]
        best = [max((row[i] for i in (*selected, *new)), default=0.0) for row in cover]
        extra = {j: sum(max(0.0, row[j] - b) for row, b in zip(cover, best, strict=True)) for j in free}
        gains = {j: w[j] * margin.above(extra[j], COVER_TIE * columns[j]) for j in free}
        new.append(margin.first(gains, slacks, free))
    return new


def score(v, e, k, selected, margin, h, a, alpha=0.8):
    similarity = [[cos(x, y) for y in h] for x in h]
    return weighted_farthest(similarity, [s**alpha for s in salience(a)], k, selected, margin)


def foveate(v, e, k, selected, margin, grid, focus=1.0, place=0.2, reach=2.0):
    n, kept = len(v), k + len(selected)
    maps = [[cos(v_i, e_t) for v_i in v] for e_t in e]
    rises = [[x - sum(row) / n for x in row] for row in maps]
    peaked = [max(0.0, sum(x**3 for x in row) / n) for row in rises]
    margin.closest = min(margin.closest, abs(sum(peaked) - 1e-9) / 1e-9)
    words = [a / sum(peaked) if sum(peaked) > 1e-9 else 0.0 for a in peaked]
    r = [sum(a * row[i] for a, row in zip(words, rises, strict=True)) for i in range(n)]
    w = [math.exp(focus * x) for x in min_max(r, margin)]
    alike = [[cos(v[i], v[j]) for j in range(n)] for i in range(n)]
    if grid:
        p = list(itertools.product(*map(range, grid)))
        sigma = reach * (n / kept) ** (1 / max(1, sum(size > 1 for size in grid)))
        alike = [
            [alike[i][j] - place * (1 - math.exp(-(math.dist(p[i], p[j]) ** 2) / (2 * sigma**2))) for j in range(n)]
            for i in range(n)
        ]
    return weighted_farthest(alike, w, k, selected, margin)


def weighted_farthest(similarity, w, k, selected, margin):
    new = []
    for _ in range(k):
        free = [j for j in range(len(w)) if j not in selected and j not in new]
        gaps = {j: min((1 - similarity[j][i] for i in (*selected, *new)), default=1.0) for j in free}
        values = {j: w[j] * margin.above(gaps[j], TIE) for j in free}
        new.append(margin.first(values, [TIE * w_j for w_j in w], free))
    return new


def min_max(values, margin):
    low, high = min(values), max(values)
    margin.closest = min(margin.closest, abs(high - low - TIE) / TIE)
    return [(x - low) / (high - low) if high - low > TIE else 0.0 for x in values]


def coin(v, e, k, selected, margin, coverage=0.5, saliency=0.5, ridge=0.01):
    n = len(v)
    norms = [math.hypot(*v_i) for v_i in v]
    strong = min_max([x / max(norms) if max(norms) else 0.0 for x in norms], margin)
    fits = min_max(relevance("pooled", v, e), margin)
    s = [saliency * x + (1 - saliency) * y for x, y in zip(strong, fits, strict=True)]
    kernel = [[cos(v[i], v[j]) + ridge * (i == j) for j in range(n)] for i in range(n)]
    d = [kernel[i][i] for i in range(n)]
    rows, new = [], []
    for step in range(len(selected) + k):
        if step < len(selected):
            j = selected[step]
        else:
            free = [i for i in range(n) if i not in selected and i not in new]
            gains = {i: (1 - coverage) * s[i] + coverage * math.log(d[i]) for i in free}
            slacks = {i: TIE * (1 - coverage + coverage / d[i]) for i in free}
            j = margin.first(gains, slacks, free)
            new.append(j)
        c = [(kernel[j][i] - sum(row[j] * row[i] for row in rows)) / math.sqrt(d[j]) for i in range(n)]
        rows.append(c)
        d = [max(d_i - c_i**2, ridge) for d_i, c_i in zip(d, c, strict=True)]
    return new


def vispruner(v, e, k, selected, margin, h, a, tenths=5, step=8):
    ranked = margin.ranked(salience(a), [j for j in range(len(h)) if j not in selected])
    important = ranked[: tenths * k // 10]
    left = sorted(j for j in ranked if j not in important)
    while len(left) > k - len(important):
        if len(important) == k:
            return important
        first, second = left[::2], left[1::2]
        nearest = {i: -max(cos(h[i], h[j]) for j in second) for i in first}
        drop = min(step, len(left) - (k - len(important)), len(second))
        left = sorted(margin.ranked(nearest, first)[: len(first) - drop] + second)
    return important + left


def share_out(k, weights, room, margin):
    """Whole shares of k by weight, none above its room; what is left goes to the others, the largest fractions up."""
    quotas, open_parts = [0] * len(room), [c for c in range(len(room)) if room[c]]
    while k:
        share = {c: k * weights[c] / sum(weights[c] for c in open_parts) for c in open_parts}
        full = [c for c in open_parts if share[c] >= room[c]]
        for c in full:
            quotas[c] = room[c]
            k -= quotas[c]
        open_parts = [c for c in open_parts if c not in full]
        if not full:
            for c in open_parts:
                quotas[c] = math.floor(share[c])
            k -= sum(quotas[c] for c in open_parts)
            for c in margin.ranked({c: share[c] - quotas[c] for c in open_parts}, open_parts)[:k]:
                quotas[c] += 1
            k = 0
    return quotas


def holov(v, e, k, selected, margin, h, a, crops=16):
    n, s = len(h), salience(a)
    count = min(crops, n)
    sizes = [n // count + (c < n % count) for c in range(count)]
    parts = [list(range(sum(sizes[:c]), sum(sizes[: c + 1]))) for c in range(count)]
    varied = []
    for part in parts:
        spread = 0.0
        for i in part if len(part) > 1 else []:
            others = [cos(h[i], h[j]) for j in part if j != i]
            spread += sum((x - sum(others) / len(others)) ** 2 for x in others) / len(others) / len(part)
        varied.append(spread)
    average = sum(varied) / count
    margin.closest = min(margin.closest, abs(average - TIE) / TIE)
    weights = [
        max(sum(s[i] for i in part) / len(part) + (x / average if average > TIE else 1.0), TIE)
        for part, x in zip(parts, varied, strict=True)
    ]
    free = [[i for i in part if i not in selected] for part in parts]
    quotas = share_out(k, weights, [len(part) for part in free], margin)
    return [
        i for part, quota in zip(free, quotas, strict=True) for i in (margin.ranked(s, part) if quota else [])[:quota]
    ]


def lrcp(v, e, k, selected, margin, rank=4):
    rows = np.array(v) - np.mean(v, axis=0)
    _, sizes, directions = np.linalg.svd(rows, full_matrices=False)
    spread = sizes**2
    rest, slack = spread[rank] if len(spread) > rank else 0.0, TIE * spread.sum()
    scores = []
    dominant = [j for j in range(min(rank, len(spread))) if spread[j] > rest + slack]
    if slack:
        margin.closest = min([margin.closest, *(abs(x - rest - slack) / slack for x in spread[:rank])])
    length = sum(dot(x, x) for x in v) / len(v) or 1.0
    for x in rows.tolist():
        for j in dominant:
            u = directions[j].tolist()
            along = dot(x, u)
            x = [a - along * b for a, b in zip(x, u, strict=True)]
        scores.append(dot(x, x) / length)
    return margin.ranked(scores, [j for j in range(len(v)) if j not in selected])[:k]


def prunesid(v, e, k, selected, margin, members=4, threshold=18.0, largest=5):
    n, d, total = len(v), len(v[0]), k + len(selected)
    size = math.sqrt(sum(dot(x, x) for x in v) / (n * d)) or 1.0
    squashed = np.array([[1 / (1 + math.exp(-x / size)) for x in row] for row in v])
    _, sizes, loads = np.linalg.svd((squashed - squashed.mean(0)).T, full_matrices=False)
    noise, used = TIE * math.sqrt(n * d), []
    for j in range(min(max(1, total // members), len(sizes))):
        margin.closest = min(margin.closest, abs(sizes[j] - noise) / noise)
        if sizes[j] > noise:
            used.append(j)
            below = sizes[j + 1] if j + 1 < len(sizes) else 0.0  # singular vectors of equal values are arbitrary
            margin.closest = min(margin.closest, (sizes[j] - below) / (TIE * sizes[0]))
    part = [[abs(loads[j][i]) for j in used] or [0.0] for i in range(n)]
    scores = [max(row) for row in part]
    group = [margin.first(row, [TIE] * len(row), range(len(row))) for row in part]
    like = [[cos(x, y) for y in v] for x in v]
    pairs = [like[i][j] for i in range(n) for j in range(i)]
    border = min(threshold * total / n * sum(pairs) / max(1, len(pairs)) + TIE, 1 - TIE)
    fresh, spare = [], []
    for i in margin.ranked(scores, [j for j in range(n) if j not in selected]):
        earlier = [like[i][j] for j in (*selected, *fresh) if group[j] == group[i]]
        margin.closest = min([margin.closest, *(abs(x - border) / TIE for x in earlier)])
        (spare if any(x > border for x in earlier) else fresh).append(i)
    groups = range(max(1, len(used)))
    alive, left = ([sum(group[i] == g for i in some) for g in groups] for some in (fresh, spare))
    weights = [max(a, TIE) for a in alive]
    if len(fresh) < k:
        quotas = [a + b for a, b in zip(alive, share_out(k - len(fresh), weights, left, margin), strict=True)]
    else:
        most = largest * math.ceil(total / 64)
        while sum(min(a, most) for a in alive) < k:
            most += 1
        one = [int(alive[g] > 0 and all(group[i] != g for i in selected)) for g in groups]
        one = one if sum(one) <= k else [0] * len(one)
        room = [min(a, most) - b for a, b in zip(alive, one, strict=True)]
        quotas = [a + b for a, b in zip(one, share_out(k - sum(one), weights, room, margin), strict=True)]
    return [i for g in groups for i in [j for j in fresh + spare if group[j] == g][: quotas[g]]]


def visionzip(v, e, k, selected, margin, a, keys, dominant=(54, 64)):
    free = margin.ranked(salience(a), [j for j in range(len(v)) if j not in selected])
    size = (2 * dominant[0] * k + dominant[1]) // (2 * dominant[1])
    rest, contextual = sorted(free[size:]), k - size
    return free[:size] + [rest[i * (len(rest) // contextual)] for i in range(contextual)]


def visionzip_mix(n, kept, margin, a, keys, dominant=(54, 64)):
    top = visionzip([None] * n, [], len(kept), [], margin, a, keys, dominant)
    size = (2 * dominant[0] * len(kept) + dominant[1]) // (2 * dominant[1])
    targets = [i for i in kept if i not in top[:size]]
    members = {i: [] for i in targets}
    for j in range(n):
        if j not in kept and targets:
            members[
                margin.first({i: cos(keys[i], keys[j]) for i in targets}, dict.fromkeys(targets, TIE), targets)
            ] += [j]
    rows = []
    for i in kept:
        merged = members.get(i, [])
        own = 0.5 if merged else 1.0
        rows.append([own if j == i else 0.5 / len(merged) if j in merged else 0.0 for j in range(n)])
    return rows


def vidcom2(v, e, k, selected, margin, grid, temperature=0.01):
    n, frames = len(v), grid[0] if grid else 1
    size = n // frames

    def spread(values):
        return sum((x - sum(values) / n) ** 2 for x in values) / n

    spreads = [spread(column) for column in zip(*v, strict=True)]
    order = sorted(range(len(spreads)), key=lambda c: spreads[c])
    calm = order[: max(1, len(order) // 2)]
    if len(calm) < len(order):
        margin.closest = min(margin.closest, spreads[order[len(calm)]] / max(spreads[calm[-1]], 1e-300) - 1)
    rows = [[row[c] for c in calm] for row in v]
    unit = [[x / (math.hypot(*row) or 1.0) for x in row] for row in rows]

    def likeness(row, centre):
        square = sum((x - y) ** 2 for x, y in zip(row, centre, strict=True))
        return sum(math.exp(-square / (2 * a)) for a in (0.125, 0.25, 0.5, 1.0, 2.0))

    parts = [list(range(t * size, (t + 1) * size)) for t in range(frames)]
    to_video = [likeness(row, mean(unit)) for row in unit]
    centres = [mean([unit[i] for i in part]) for part in parts]
    total = [to_video[i] + likeness(unit[i], centres[i // size]) for i in range(n)]
    shares = softmax([-sum(to_video[i] for i in part) / size / temperature for part in parts])
    kept = []
    for part, share in zip(parts, shares, strict=True):
        quota = k / frames * (1 + share - 1 / frames)
        margin.closest = min(margin.closest, abs(quota % 1 - 0.5))
        free = [i for i in part if i not in selected]
        kept += margin.ranked([-x for x in total], free)[: min(max(round(quota), 1), len(free))] if free else []
    if len(kept) > k:
        return margin.ranked([-x for x in total], kept)[:k]
    rest = [i for i in range(n) if i not in kept and i not in selected]
    return kept + (margin.ranked([-x for x in total], rest)[: k - len(kept)] if rest else [])


def quantile(values, share):
    ordered = sorted(values)
    place = share * (len(values) - 1)
    low = math.floor(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(values) - 1)] - ordered[low])


def prumerge(v, e, k, selected, margin, a, keys):
    s = salience(a)
    border = quantile(s, 0.75) + 1.5 * (quantile(s, 0.75) - quantile(s, 0.25)) + TIE
    free = [j for j in range(len(s)) if j not in selected]
    margin.closest = min([margin.closest, *(abs(s[j] - border) / TIE for j in free)])
    outliers = [j for j in margin.ranked(s, free) if s[j] > border][:k]
    rest, even = [j for j in free if j not in outliers], k - len(outliers)
    return outliers + [rest[(2 * i + 1) * len(rest) // (2 * even)] for i in range(even)]


def prumerge_mix(n, kept, margin, a, keys, neighbours=32):
    dropped = [j for j in range(n) if j not in kept]
    rows = []
    for i in kept:
        near = sorted(dropped, key=lambda j: -cos(keys[i], keys[j]))
        if 0 < neighbours < len(near):
            gap = cos(keys[i], keys[near[neighbours - 1]]) - cos(keys[i], keys[near[neighbours]])
            margin.closest = min(margin.closest, gap / TIE)
        weights = {i: 1.0, **{j: a[j] for j in near[:neighbours]}}
        rows.append([weights.get(j, 0.0) / sum(weights.values()) for j in range(n)])
    return rows


def trimmed_llama(v, e, k, selected, margin, across):
    """Let every head have one more token, until there is no room for the union; then by the sum of ranks."""
    n, heads = len(v), list(zip(*across, strict=True))
    kept, m = set(), 0
    while len(kept) < k:
        m += 1
        union = {i for head in heads for i in range(n) if sum(other > head[i] for other in head) < m}
        new = union - set(selected) - kept
        if len(kept) + len(new) > k:
            ranks = {i: sum(sum(other > head[i] for other in head) for head in heads) for i in new}
            new = sorted(new, key=lambda i: (ranks[i], i))[: k - len(kept)]
        kept |= set(new)
    return kept


REFERENCES = {
    "cdpruner": cdpruner, "coin": coin, "divprune": divprune, "foveate": foveate, "holov": holov, "lrcp": lrcp,
    "mmtok": mmtok, "prumerge": prumerge, "prunesid": prunesid, "scope": scope, "score": score,
    "trimmed_llama": trimmed_llama, "vidcom2": vidcom2,
    "visionzip": visionzip, "vispruner": vispruner, "zspaprune": zspaprune,
}  # fmt: skip
MIXES = {"prumerge": prumerge_mix, "visionzip": visionzip_mix}
