"""The time of the selection rules beside their textbook forms, in one process, turn by turn. Writes selection.json.

Textbook: the full similarity matrix, then a Python loop that reads every choice back. Tokens are noisy copies of a few
prototypes, as a picture's are. Prints medians of milliseconds and their ratio; the choice must be the same.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from foveate.selection import dpp, farthest_point, weighted_farthest_point
from foveate.tokens import unit_rows

NONE = torch.empty(0, dtype=torch.long)
CASES = ((576, 64, 4096), (2880, 288, 4096), (16384, 1638, 1024))  # tokens, kept, width
ROUNDS = {576: 15, 2880: 5, 16384: 1}


def tokens(n: int, d: int) -> Tensor:
    """(n, d) noisy copies of n / 40 prototypes."""
    seeded = torch.Generator().manual_seed(0)
    prototypes = torch.randn(n // 40, d, generator=seeded)
    return prototypes[torch.randint(len(prototypes), (n,), generator=seeded)] + torch.randn(n, d, generator=seeded) / 2


def weighted(embeds: Tensor, weight: Tensor, k: int) -> list[int]:
    """`argmax_j w_j min_{i in S} (1 - cos)`, from the largest weight on."""
    similarity = unit_rows(embeds) @ unit_rows(embeds).T
    chosen = [int(weight.argmax())]
    nearest = similarity[chosen[0]].clone()
    while len(chosen) < k:
        value = (1 - nearest) * weight
        value[chosen] = -math.inf
        chosen.append(int(value.argmax()))
        nearest = torch.maximum(nearest, similarity[chosen[-1]])
    return sorted(chosen)


def farthest(embeds: Tensor, _: Tensor, k: int) -> list[int]:
    """`argmin_j max_{i in S} cos`, from the token whose nearest neighbour is farthest on."""
    similarity = unit_rows(embeds) @ unit_rows(embeds).T
    apart = similarity.clone().fill_diagonal_(-math.inf).amax(1)
    chosen = [int(apart.argmin())]
    nearest = similarity[chosen[0]].clone()
    while len(chosen) < k:
        nearest[chosen[-1]] = math.inf
        chosen.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, similarity[chosen[-1]])
    return sorted(chosen)


def volume(embeds: Tensor, relevance: Tensor, k: int) -> list[int]:
    """Greedy MAP of the DPP `r_i cos r_j`, by the Cholesky rows of its whole kernel."""
    kernel = relevance[:, None] * (unit_rows(embeds) @ unit_rows(embeds).T) * relevance
    rest, factor, chosen = kernel.diagonal().clone(), torch.zeros(k, len(embeds)), []
    for row in range(k):
        rest[chosen] = -math.inf
        chosen.append(int(rest.argmax()))
        column = kernel[chosen[-1]] - factor[:row].T @ factor[:row, chosen[-1]]
        factor[row] = column / rest[chosen[-1]].sqrt()
        rest -= factor[row].square()
    return sorted(chosen)


RULES: dict[str, tuple[Callable[..., Tensor], Callable[..., list[int]]]] = {
    "weighted farthest point (foveate, score)": (lambda e, w, k: weighted_farthest_point(e, w, k, NONE), weighted),
    "farthest point (divprune, zspaprune)": (lambda e, _, k: farthest_point(e, k, NONE), farthest),
    "determinantal point process (cdpruner)": (lambda e, w, k: dpp(e, w, k, NONE), volume),
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    found = []
    for n, k, d in CASES:
        embeds = tokens(n, d)
        weight = torch.rand(n, generator=torch.Generator().manual_seed(1)).exp()
        for name, (ours, textbook) in RULES.items():
            if n > 2880 and textbook is volume:
                continue  # minutes
            spent: dict[str, list[float]] = {"ours": [], "textbook": []}
            for _ in range(ROUNDS[n]):
                started = time.perf_counter()
                mine = ours(embeds, weight, k).tolist()
                between = time.perf_counter()
                theirs = textbook(embeds, weight, k)
                spent["ours"].append(between - started)
                spent["textbook"].append(time.perf_counter() - between)
            median = {who: statistics.median(seconds) * 1000 for who, seconds in spent.items()}
            row = {"rule": name, "n": n, "k": k, "d": d, "ms": median, "same choice": mine == theirs}
            row["times faster"] = median["textbook"] / median["ours"]
            found.append(row)
            print(json.dumps(row), flush=True)
    Path(__file__).with_name("results").joinpath("selection.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
