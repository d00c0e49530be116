"""The greedy loop of farthest points on a GPU: one launch for all images and steps, without a host sync."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from foveate.method.selection.farthest import FarthestPoint
from foveate.method.selection.loop import TIE

try:
    import triton
    import triton.language as tl
except ImportError:  # torch for CUDA and ROCm installs it
    triton = None

LARGEST = 8192  # tokens of an image: their similarities take 256 MiB, and their state fits a program's registers
WARPS = 8


def is_usable(rule: FarthestPoint) -> bool:
    """Whether the kernel can run this problem; otherwise the loop goes step by step."""
    return triton is not None and rule.gap.device.type == "cuda" and len(rule.gap) <= LARGEST


def launch_many(rules: Sequence[FarthestPoint], counts: Sequence[int], free: Sequence[Tensor]) -> list[Tensor]:
    """Select for each image what `loop.select_greedily` selects, (k,) in that order; one program per image.

    The n x n similarities of all images of a launch exist together, padded to the largest: up to 256 MiB.
    """
    together = max(1, LARGEST**2 // max(len(rule.gap) for rule in rules) ** 2)
    picked: list[Tensor] = []
    for start in range(0, len(rules), together):
        part = slice(start, start + together)
        picked += _launch(rules[part], counts[part], free[part])
    return picked


def _launch(rules: Sequence[FarthestPoint], counts: Sequence[int], free: Sequence[Tensor]) -> list[Tensor]:
    n, device = max(len(rule.gap) for rule in rules), rules[0].gap.device
    like = torch.zeros(len(rules), n, n, device=device)
    gap, weight = torch.zeros(2, len(rules), n, device=device)
    open_ = torch.zeros(len(rules), n, dtype=torch.int8, device=device)  # padding is never free
    for place, (rule, own) in enumerate(zip(rules, free, strict=True)):
        size = len(rule.gap)
        every = torch.arange(size, device=device)
        like[place, :size, :size] = rule.compare(rule.cosines.unit(every), every)
        gap[place, :size], weight[place, :size], open_[place, :size] = rule.gap, rule.weight, own
    room = max(1, *counts)
    picked = torch.zeros(len(rules), room, dtype=torch.long, device=device)
    limits = torch.tensor(counts, device=device)
    launch = _compile()[(len(rules),)]
    block = triton.next_power_of_2(n)
    launch(like, gap, weight, open_, limits, picked, n, room, tie=TIE, block=block, num_warps=WARPS)
    return [row[:count] for row, count in zip(picked, counts, strict=True)]


@cache
def _compile() -> Any:
    return triton.jit(_choose)  # keeps its compiled code


def _choose(like, gap, weight, open_, limits, picked, n, room, tie: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Select for one image: rows (n, n) of `like`, (n,) of `gap`, `weight` and `open_`, (room,) of `picked`."""
    image = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, block)
    inside = places < n
    near = tl.load(gap + image * n + places, mask=inside, other=0.0)
    worth = tl.load(weight + image * n + places, mask=inside, other=0.0)
    free = tl.load(open_ + image * n + places, mask=inside, other=0) > 0
    for step in range(tl.load(limits + image)):
        value = tl.where(free, tl.where(near > tie, near * worth, 0.0), float("-inf"))
        ties = value + tie * worth >= tl.max(value, 0)
        pick = tl.min(tl.where(ties, places, block), 0)  # the lowest index
        tl.store(picked + image * room + step, pick)
        free = free & (places != pick)
        row = tl.load(like + (image * n + pick) * n + places, mask=inside, other=1.0)
        near = tl.minimum(near, 1 - row)
