"""The part `selection` of `gpu.py`: milliseconds of a choice, ms(n, k, d), for every rule and every method.

A rule is timed beside its textbook form (see `selection.py`), on float32 tokens; a method with its scores and checks,
on tokens of the type that models have on the device.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor

from foveate.method import methods, resolve
from foveate.method.scope import Scope
from foveate.method.selection import select_top_k
from foveate.method.tokens import VisualTokens, unit_rows
from gpu_timing import GpuSettings, Row, Rows, compare_in_turns
from selection import CASES, RULES, cover_greedily, make_tokens, select_none

SMALL = ((144, 16, 64), (400, 40, 64))
WORDS = 40  # of the question
Choose = Callable[[Tensor, Tensor, int], Tensor]


def make_rows(settings: GpuSettings) -> Rows:
    """Every rule, then every method, in every size."""
    cases, rows = settings.choose(CASES, SMALL, SMALL[:1]), dict[str, Callable[[], Row]]()
    for size in cases:
        rows |= {f"{name}, {_format(size)}": partial(compare_rule, name, size, settings) for name in ALL_RULES}
    for size in cases:
        names = [row.name for row in methods() if row.prunes == "input"]
        rows |= {f"{name}, {_format(size)}": partial(time_method, name, size, settings) for name in names}
    return rows


keep_tokens = lru_cache(maxsize=1)(make_tokens)  # rows of one size follow each other


def _format(size: tuple[int, int, int]) -> str:
    n, k, d = size
    return f"{k} of {n}, d = {d}"


def textbook_highest(_: Tensor, weight: Tensor, k: int) -> list[int]:
    """The highest weights."""
    return sorted(weight.argsort(descending=True)[:k].tolist())


def textbook_scope(embeds: Tensor, weight: Tensor, k: int) -> list[int]:
    """SCOPE: `argmax_j w_j sum_i max(0, cos_ij - best_i)`."""
    unit = unit_rows(embeds)
    return cover_greedily((unit @ unit.T).clamp_(min=0), weight, k)


ALL_RULES: dict[str, tuple[Choose, Callable[[Tensor, Tensor, int], list[int]]]] = {
    **RULES,
    "coverage (scope)": (
        lambda e, w, k: Scope().select(VisualTokens(e, e[:0], encoder=e, cls_attention=w), k),
        textbook_scope,
    ),
    "highest scores (visionzip, prumerge)": (lambda _, w, k: select_top_k(w, k, select_none(w)), textbook_highest),
}


def compare_rule(name: str, size: tuple[int, int, int], settings: GpuSettings) -> Row:
    """Time a rule beside its textbook, and compare the choices."""
    (n, k, d), device = size, settings.torch_device
    embeds = keep_tokens(n, d).to(device)
    weight = torch.rand(n, generator=torch.Generator().manual_seed(1)).exp().to(device)
    ours, textbook = ALL_RULES[name]
    mine, theirs = ours(embeds, weight, k).tolist(), textbook(embeds, weight, k)
    calls = {"ours": partial(ours, embeds, weight, k), "textbook": partial(textbook, embeds, weight, k)}
    return {
        "rule": name, "n": n, "k": k, "d": d, "dtype": "float32",
        "same choice": mine == theirs, "in common": len(set(mine) & set(theirs)) / k,
        "faults": [] if len(set(mine)) == k else [f"{len(set(mine))} distinct tokens were chosen, not {k}."],
        **compare_in_turns(calls, device, rounds=settings.choose(20, 5, 1), seconds=1),
    }  # fmt: skip


def time_method(name: str, size: tuple[int, int, int], settings: GpuSettings) -> Row:
    """Time a method on tokens with a question and with all that methods read."""
    (n, k, d), device = size, settings.torch_device
    dtype = torch.float32 if settings.device == "cpu" else torch.bfloat16
    embeds = keep_tokens(n, d).to(device, dtype)
    share = torch.rand(n, generator=torch.Generator().manual_seed(1)).softmax(0).to(device)
    question, width = embeds[:: max(1, n // WORDS)][:WORDS].roll(1, 1), round(n**0.5)
    grid = (1, width, n // width) if n % width == 0 else None
    tokens = VisualTokens(
        embeds,
        question,
        grid,
        encoder=embeds,
        cls_attention=share,
        keys=embeds,
        attention=share.flip(0),
        cross_attention=torch.stack([share, share.flip(0)], 1),
    )
    method = resolve(name)
    chosen = method.select(tokens, k).tolist()
    return {
        "method": name, "n": n, "k": k, "d": d, "dtype": str(dtype).removeprefix("torch."),
        "faults": [] if len(set(chosen)) == k else [f"{len(set(chosen))} distinct tokens were chosen, not {k}."],
        **compare_in_turns(
            {"method": lambda: method.select(tokens, k)}, device, rounds=settings.choose(20, 5, 1), seconds=1
        ),
    }  # fmt: skip
