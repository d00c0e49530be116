"""The selection rules compared with their textbook forms, in turns in one process. Writes results/selection.json.

Textbook means the full similarity matrix, then a Python loop that reads every choice back. Tokens are noisy copies of a
few prototypes, some much noisier than others, as in an image. The results are medians of milliseconds, their ratio and
whether the choice is the same; then the memory of a choice from a long video, and the default method's time compared
with the prefill that it saves.
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

from foveate.apps.bench import shapes
from foveate.apps.bench.memory import measure_peak
from foveate.method import resolve
from foveate.method.selection import FarthestProblem, select_dpp, select_farthest, select_log_volume
from foveate.method.tokens import VisualTokens, unit_rows

CASES = ((576, 64, 4096), (2880, 288, 4096), (16384, 1638, 1024))  # tokens, kept, width
ROUNDS = {576: 15, 2880: 5, 16384: 1}
VIDEO = (131072, 4096, 4096)
MINUTES = 16384  # number of tokens at which some textbooks take minutes


def make_tokens(n: int, d: int) -> Tensor:
    """Make (n, d) noisy copies of n / 40 prototypes; every tenth token is mostly noise."""
    seeded = torch.Generator().manual_seed(0)
    prototypes = torch.randn(n // 40, d, generator=seeded)
    noise = torch.randn(n, d, generator=seeded).mul_(torch.where(torch.arange(n) % 10 == 0, 1.5, 0.5)[:, None])
    return noise.add_(prototypes[torch.randint(len(prototypes), (n,), generator=seeded)])


def select_none(embeds: Tensor) -> Tensor:
    """Return the indices of no token, on the device of `embeds`."""
    return torch.empty(0, dtype=torch.long, device=embeds.device)


def textbook_weighted(embeds: Tensor, weight: Tensor, k: int) -> list[int]:
    """`argmax_j w_j min_{i in S} (1 - cos)`, starting from the largest weight."""
    unit = unit_rows(embeds)
    similarity = unit @ unit.T
    chosen = [int(weight.argmax())]
    nearest = similarity[chosen[0]].clone()
    while len(chosen) < k:
        value = (1 - nearest) * weight
        value[chosen] = -math.inf
        chosen.append(int(value.argmax()))
        nearest = torch.maximum(nearest, similarity[chosen[-1]])
    return sorted(chosen)


def textbook_farthest(embeds: Tensor, _: Tensor, k: int) -> list[int]:
    """`argmin_j max_{i in S} cos`, starting from the token whose nearest neighbour is farthest."""
    unit = unit_rows(embeds)
    similarity = unit @ unit.T
    apart = similarity.clone().fill_diagonal_(-math.inf).amax(1)
    chosen = [int(apart.argmin())]
    nearest = similarity[chosen[0]].clone()
    while len(chosen) < k:
        nearest[chosen[-1]] = math.inf
        chosen.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, similarity[chosen[-1]])
    return sorted(chosen)


def textbook_volume(embeds: Tensor, relevance: Tensor, k: int) -> list[int]:
    """Greedy MAP of the DPP `r_i cos r_j`, by the Cholesky rows of its whole kernel."""
    unit = unit_rows(embeds)
    kernel = relevance[:, None] * (unit @ unit.T) * relevance
    rest, factor, chosen = kernel.diagonal().clone(), embeds.new_zeros(k, len(embeds)), []
    for row in range(k):
        rest[chosen] = -math.inf
        chosen.append(int(rest.argmax()))
        column = kernel[chosen[-1]] - factor[:row].T @ factor[:row, chosen[-1]]
        factor[row] = column / rest[chosen[-1]].sqrt()
        rest -= factor[row].square()
    return sorted(chosen)


def textbook_log_determinant(embeds: Tensor, bonus: Tensor, k: int) -> list[int]:
    """Greedy maximum of `sum_S bonus / 2 + log det(V_S V_S' + 0.01 I) / 2`, by Cholesky rows."""
    unit = unit_rows(embeds)
    kernel = unit @ unit.T
    kernel.diagonal().add_(0.01)
    rest, factor, chosen = kernel.diagonal().clone(), embeds.new_zeros(k, len(embeds)), []
    for row in range(k):
        value = bonus / 2 + rest.clamp(min=0.01).log() / 2
        value[chosen] = -math.inf
        chosen.append(int(value.argmax()))
        column = kernel[chosen[-1]] - factor[:row].T @ factor[:row, chosen[-1]]
        factor[row] = column / rest[chosen[-1]].sqrt()
        rest -= factor[row].square()
    return sorted(chosen)


def textbook_coverage(embeds: Tensor, weight: Tensor, k: int) -> list[int]:
    """MMTok without a question: `argmax_j sum_r max(0, W_rj - best_r)`, W the softmax of the cosines at 0.2."""
    unit = unit_rows(embeds)
    return cover_greedily((unit @ unit.T / 0.2).softmax(1), torch.ones_like(weight), k)


def cover_greedily(weights: Tensor, value: Tensor, k: int) -> list[int]:
    """`argmax_j value_j sum_r max(0, W_rj - best_r)`, with all of W (n, n) in every step."""
    best, chosen = torch.zeros_like(value), list[int]()
    for _ in range(k):
        gain = (weights - best[:, None]).clamp_(min=0).sum(0) * value
        gain[chosen] = -math.inf
        chosen.append(int(gain.argmax()))
        best = torch.maximum(best, weights[:, chosen[-1]])
    return sorted(chosen)


def use_method(name: str) -> Callable[[Tensor, Tensor, int], Tensor]:
    """Return a method's choice without a question."""
    return lambda e, _, k: resolve(name).select(VisualTokens(e, e[:0]), k)


RULES: dict[str, tuple[Callable[[Tensor, Tensor, int], Tensor], Callable[[Tensor, Tensor, int], list[int]]]] = {
    "weighted farthest point (foveate, score)": (
        lambda e, w, k: select_farthest([FarthestProblem(e, k, select_none(e), w)])[0],
        textbook_weighted,
    ),
    "farthest point (divprune, zspaprune)": (
        lambda e, _, k: select_farthest([FarthestProblem(e, k, select_none(e))])[0],
        textbook_farthest,
    ),
    "determinantal point process (cdpruner)": (lambda e, w, k: select_dpp(e, w, k, select_none(e)), textbook_volume),
    "log-determinant (coin)": (
        lambda e, w, k: select_log_volume(e, w, k, select_none(e), share=0.5, ridge=0.01),
        textbook_log_determinant,
    ),
    "coverage (mmtok)": (use_method("mmtok"), textbook_coverage),
}
SLOW = (textbook_volume, textbook_log_determinant, textbook_coverage)


def compare_rules() -> list[dict[str, object]]:
    """Compare every rule with its textbook."""
    results = []
    for n, k, d in CASES:
        embeds = make_tokens(n, d)
        weight = torch.rand(n, generator=torch.Generator().manual_seed(1)).exp()
        for name, (ours, textbook) in RULES.items():
            alone = n >= MINUTES and textbook in SLOW
            if alone and textbook is textbook_coverage:
                continue
            spent: dict[str, list[float]] = {"ours": [], "textbook": []}
            theirs = None
            for _ in range(ROUNDS[n]):
                started = time.perf_counter()
                mine = ours(embeds, weight, k).tolist()
                between = time.perf_counter()
                spent["ours"].append(between - started)
                if not alone:
                    theirs = textbook(embeds, weight, k)
                    spent["textbook"].append(time.perf_counter() - between)
            median = {who: statistics.median(seconds) * 1000 for who, seconds in spent.items() if seconds}
            row: dict[str, object] = {"rule": name, "n": n, "k": k, "d": d, "ms": median}
            if theirs is not None:
                row |= {"same choice": mine == theirs, "times faster": median["textbook"] / median["ours"]}
                row["in common"] = len(set(mine) & set(theirs)) / k
            results.append(row)
            print(json.dumps(row), flush=True)
    return results


def measure_video() -> dict[str, object]:
    """Measure the default method on a long video in half precision: seconds, and peak memory above the inputs."""
    n, k, d = VIDEO
    embeds = torch.empty(n, d, dtype=torch.bfloat16)
    for start in range(0, n, 8192):
        embeds[start : start + 8192] = torch.randn(8192, d, generator=torch.Generator().manual_seed(start))
    video = VisualTokens(embeds, embeds[:30].clone(), (512, 16, 16))
    started = time.perf_counter()
    peak = measure_peak(lambda: resolve("foveate").select(video, k), torch.device("cpu"))
    row: dict[str, object] = {"n": n, "k": k, "d": d, "dtype": "bfloat16", "seconds": time.perf_counter() - started}
    row["GiB above the inputs"] = None if peak is None else peak.above / 2**30
    row["GiB of the textbook's matrix"] = 4 * n * n / 2**30
    print(json.dumps(row), flush=True)
    return row


@torch.no_grad()
def compare_with_prefill() -> dict[str, object]:
    """Compare the default's time (n = 576, k = 64, d = 4096) with what it saves a decoder of 1.07 G parameters."""
    n, k, d = CASES[0]
    model, _ = shapes.build(shapes.SHAPES["llava-1.5-7b"], 5)
    decoder, embeds = model.base_model.language_model, make_tokens(n, d)
    question = torch.randn(40, d, generator=torch.Generator().manual_seed(2))
    image = VisualTokens(embeds, question, (1, 24, 24))
    spent: dict[str, list[float]] = {"whole": [], "pruned": [], "selection": []}
    for number in range(6):
        stages = (
            ("whole", lambda: decoder(inputs_embeds=torch.cat([embeds, question])[None])),
            ("pruned", lambda: decoder(inputs_embeds=torch.cat([embeds[:k], question])[None])),
            ("selection", lambda: resolve("foveate").select(image, k)),
        )
        for stage, call in stages:
            started = time.perf_counter()
            call()
            if number:
                spent[stage].append(time.perf_counter() - started)
    shares = [s / (w - p) for w, p, s in zip(*spent.values(), strict=True)]
    row: dict[str, object] = {stage: statistics.median(seconds) * 1000 for stage, seconds in spent.items()}
    row = {"n": n, "k": k, "d": d, "ms": row, "parameters": sum(p.numel() for p in decoder.layers.parameters())}
    row["share of the prefill saved"] = statistics.median(shares)
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    results = {"prefill": compare_with_prefill(), "rules": compare_rules(), "video": measure_video()}
    Path(__file__).with_name("results").joinpath("selection.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
