"""Slow, obvious references: plain Python loops in double precision, straight from the papers' formulas.

Written from the formulas alone and sharing nothing with the shipped rules but what is documented there: what is a tie
(`TIE`, `COVER_TIE`), that ties go to the lowest index, and when a DPP has run out of rank (`SPENT`).

`Margin` keeps the closest call of a run: how near any candidate came to the border between "tie" and "no tie" (or
between "spent" and "not spent"). Where that is within the rounding of float32 the indices are a matter of luck.
"""

import math

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


def divprune(v, e, k, given, margin):
    return farthest(v, k, list(given), margin)


def zspaprune(v, e, k, given, margin, tenths=6, kind="pooled"):
    scores = relevance(kind, v, e)
    core_size = tenths * k // 10
    if max(scores) - min(scores) <= TIE:
        core_size = 0
    core = margin.ranked(scores, [j for j in range(len(v)) if j not in given])[:core_size] if core_size else []
    return core + farthest(v, k - core_size, [*given, *core], margin)


def cdpruner(v, e, k, given, margin):
    n = len(v)
    x = relevance("pooled", v, e)
    low, high = min(x), max(x)
    r = [(x_i - low + 1e-6) / (high - low) if high - low > TIE else 1.0 for x_i in x]
    kernel = [[r[i] * cos(v[i], v[j]) * r[j] for j in range(n)] for i in range(n)]
    d = [kernel[i][i] for i in range(n)]
    rows, new, order = [], [], None
    for step in range(len(given) + k):
        if step < len(given):
            j = given[step]
        else:
            free = [i for i in range(n) if i not in given and i not in new]
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


def mmtok(v, e, k, given, margin, alpha=0.5, tau_v=0.2, tau_t=0.02):
    n, m = len(v), len(e)
    rows = [[p / m for p in softmax([cos(e_t, v_i) / tau_t for v_i in v])] for e_t in e]
    rows += [[alpha * q / n for q in softmax([cos(v_i, v_j) / tau_v for v_j in v])] for v_i in v]
    slacks = [COVER_TIE * sum(row[j] for row in rows) for j in range(n)]
    new = []
    for _ in range(k):
        free = [j for j in range(n) if j not in given and j not in new]
        best = [max((row[i] for i in (*given, *new)), default=0.0) for row in rows]
        gains = {j: sum(row[j] - b for row, b in zip(rows, best, strict=True) if row[j] > b) for j in free}
        new.append(margin.first(gains, slacks, free))
    return new


REFERENCES = {"zspaprune": zspaprune, "divprune": divprune, "cdpruner": cdpruner, "mmtok": mmtok}
