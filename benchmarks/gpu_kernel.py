"""The part `kernel` of `gpu.py`: the Triton kernel against the loop that goes step by step.

On a CPU Triton's interpreter runs the kernel: it shows the choice, and its times mean nothing.
"""

import copy
import math
import os
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from foveate.method.selection import TIE, Cosines, kernel
from foveate.method.selection.farthest import FarthestPoint
from foveate.method.selection.loop import select_in_steps
from gpu_timing import GpuSettings, NotRun, Row, Rows, compare_in_turns
from selection import make_tokens

SIZES = ((576, 64, 4096), (2880, 288, 4096), (8192, 819, 1024))  # tokens, kept, width; the last is the largest
SMALL = ((144, 16, 64), (300, 40, 64))
DTYPES = (torch.float32, torch.bfloat16)
Problem = tuple[FarthestPoint, int, Tensor]
"""A rule's state after its first choice, how many more to choose, and what is free (n,)."""


def make_rows(settings: GpuSettings) -> Rows:
    """Images of every size alone, many of one size together, and images that differ in all respects together."""
    device, rows = settings.torch_device, dict[str, Callable[[], Row]]()
    for n, k, d in settings.choose(SIZES, SMALL, SMALL[:1]):
        for dtype in settings.choose(DTYPES, DTYPES, DTYPES[:1]):
            name = f"{k} of {n}, d = {d}, {str(dtype).removeprefix('torch.')}"
            rows[name] = partial(compare, [partial(make_image, n, k, d, dtype, device)], settings)
    n, k, d = settings.choose(SIZES, SMALL, SMALL)[0]
    count = settings.choose(16, 4, 2)
    same = [partial(make_image, n, k, d, torch.float32, device, seed) for seed in range(count)]
    ragged = [partial(make_ragged, case, device) for case in range(5)]
    return {**rows, f"{count} images, {k} of {n}": partial(compare, same, settings),
            "5 unlike images": partial(compare, ragged, settings)}  # fmt: skip


def make_image(n: int, k: int, d: int, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Problem:
    """Tokens in a row, with weights and places."""
    random = torch.Generator().manual_seed(seed)
    weight, places = torch.rand(n, generator=random).exp(), torch.arange(n)[:, None] / n**0.5
    return _start(make_tokens(n, d).roll(seed, 0).to(dtype), k, weight, places, device)


def make_ragged(case: int, device: torch.device) -> Problem:
    """Copies, tokens that are all alike, weights far from one, one token, nothing to choose."""
    tokens, steep = make_tokens(130, 16), torch.linspace(0, 9, 130).exp() / 100
    embeds, k, weight = (
        (tokens[torch.arange(130) % 20], 30, torch.linspace(0, 3, 130).exp()),
        (torch.ones(33, 4), 12, torch.ones(33)),
        (tokens, 25, steep),
        (tokens[:1], 1, torch.ones(1)),
        (tokens, 1, steep),
    )[case]
    return _start(embeds, k, weight, None, device)


def _start(embeds: Tensor, k: int, weight: Tensor, places: Tensor | None, device: torch.device) -> Problem:
    weight, places = weight.to(device), None if places is None else places.to(device)
    rule = FarthestPoint(Cosines(embeds.to(device)), weight, places, 0.0 if places is None else 0.2)
    first = weight.argmax(0, keepdim=True)
    rule.take(first)
    return rule, k - 1, torch.ones_like(weight, dtype=torch.bool).index_fill_(0, first, False)


def compare(images: Sequence[Callable[[], Problem]], settings: GpuSettings) -> Row:
    """Compare one launch for all images with the loop for one after another.

    They may differ where two tokens are equally good up to rounding. So the rule itself checks every choice of the
    kernel, see `measure_shortfall`.
    """
    if kernel.triton is None:
        raise NotRun("Triton is not installed: torch for CUDA brings it, else pip install triton (Linux only).")
    if settings.device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise NotRun("Triton was imported without its interpreter: set TRITON_INTERPRET=1.")
    problems = [make() for make in images]
    calls = {
        "kernel": partial(kernel.launch_many, *map(list, zip(*problems, strict=True))),
        "loop": partial(run_loop, problems),
    }
    picks, expected = calls["kernel"](), calls["loop"]()
    shortfall = max(map(measure_shortfall, problems, picks))
    return {
        "interpreter": settings.device == "cpu",
        "same choice": all(torch.equal(a, b) for a, b in zip(picks, expected, strict=True)),
        "shortfall": f"{shortfall:.1e}",
        "faults": [] if shortfall <= TIE else [f"The kernel chose a token that is worse by {shortfall:.1e}."],
        **compare_in_turns(calls, settings.torch_device, rounds=settings.choose(20, 2, 1), seconds=2),
    }


def run_loop(problems: Sequence[Problem]) -> list[Tensor]:
    """The slow reference: step by step, one image after another."""
    return [select_in_steps(copy.copy(rule), k, free) for rule, k, free in problems]  # `take` changes no tensor


def measure_shortfall(problem: Problem, picks: Tensor) -> float:
    """How far a choice is worse than the worst one that ties with the best token of its step, at most over the steps.

    Measured in gaps (1 - cosine), infinite for a token that was not free and for a wrong number of tokens.
    """
    rule, k, free = copy.copy(problem[0]), problem[1], problem[2].clone()
    worst = torch.zeros(1, device=free.device)
    for pick in picks[:, None]:
        value, slack = (each.masked_fill(~free, -math.inf) for each in rule.value())
        worst = torch.maximum(worst, (value.amax() - (value + slack)[pick]) / rule.weight.amax())
        free.index_fill_(0, pick, False)
        rule.take(pick)
    return float(worst) if len(picks) == k else math.inf
