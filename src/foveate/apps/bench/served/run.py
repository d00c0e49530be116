"""The run: stock vLLM, the plug-in and the limit take turns, at every way for requests to arrive."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from foveate.apps.bench.published import Size
from foveate.apps.bench.served.arms import VllmArm, VllmBench
from foveate.apps.bench.served.cases import LatencyBound, LoadCase, draw_arrivals, order_requests
from foveate.apps.bench.served.clients import VllmLoad, count_blocks
from foveate.apps.bench.settings import Budget
from foveate.errors import InputError
from foveate.runtime.load_options import LoadOptions

WARM_UP = 2  # requests
ALONE = LoadCase(clients=1)
IMAGES = 4  # at least, at a rate
SCALE = 3.0  # the default bound, times what an unpruned request takes when it is alone


@dataclass(frozen=True, eq=False)
class VllmResult:
    """What was measured, on which model, with how many KV blocks, the bound, and notes for the reader."""

    name: str
    arms: list[VllmArm]
    blocks: int
    bound: LatencyBound
    notes: tuple[str, ...]


def run(
    model: str, budgets: Sequence[Budget], cases: Sequence[LoadCase], *, requests: int, new_tokens: int, rounds: int,
    layers: int | None = None, sizes: Sequence[Size] | None = None, loading: LoadOptions | None = None,
    reuse: Sequence[str] = ("question",), bound: LatencyBound | None = None,
    seconds: Callable[[], float] = time.perf_counter,
) -> VllmResult:  # fmt: skip
    """Measure every budget beside the unpruned model and, where images can be made of as few tokens, its limit.

    `requests` are sent in a turn, or more where a case needs more: each client asks all questions about one image,
    and at a rate there are a few images. Images are new in every turn. Cases with a relative rate come behind one with
    clients and as many questions. `seconds` is a clock. Raises a `FoveateError` for a model, a method or a budget that
    cannot be used.
    """
    for name, method, _ in budgets:
        if name != method.name:
            raise InputError(f"Inside vLLM a method is set by its name alone: give {method.name}, not {name}.")
    with tempfile.TemporaryDirectory() as made:
        most = max(case.questions for case in cases)
        bench = VllmBench(model, Path(made), layers, sizes, loading or LoadOptions(), new_tokens, most)
        turns = LoadTurns(bench, bench.make_arms(budgets, reuse), requests, new_tokens, seconds)
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("turns", total=len(turns.arms) * rounds * len(cases))
            bound = turns.warm_up(bound)
            for case in cases:
                turns.measure(case, rounds, lambda: bar.advance(task))
        return VllmResult(model, turns.arms, bench.blocks, bound, tuple(bench.notes))


class LoadTurns:
    """The arms of a run, which take turns."""

    def __init__(
        self, bench: VllmBench, arms: list[VllmArm], requests: int, new_tokens: int, seconds: Callable[[], float]
    ) -> None:
        self.bench, self.arms, self.requests, self.new_tokens = bench, arms, requests, new_tokens
        self.seconds, self.seeds = seconds, itertools.count()

    def warm_up(self, bound: LatencyBound | None) -> LatencyBound:
        """Count tokens and blocks, and return the bound: this one, or times what an unpruned request takes alone."""
        for arm in self.arms:
            arm.prompt = self.serve(arm, ALONE, WARM_UP).prompt
            arm.fit = self.bench.blocks // count_blocks(arm.prompt, self.new_tokens)
        if bound is not None:
            return bound
        load = self.serve(self.arms[0], ALONE, WARM_UP + 1)
        return LatencyBound(SCALE * float(np.median(load.first)), SCALE * float(np.median(load.per_token)))

    def measure(self, case: LoadCase, rounds: int, on_turn: Callable[[], None]) -> None:
        """All arms, round by round."""
        case = case.resolve(self._find_throughput(case)) if case.is_relative else case
        for turn in range(rounds):
            for arm in self.arms if turn % 2 else self.arms[::-1]:
                count = max(self.requests, case.questions * (case.clients or IMAGES))
                load = self.serve(arm, case, count, seed=turn)
                arm.loads.setdefault(case, []).append(load)
                on_turn()

    def serve(self, arm: VllmArm, case: LoadCase, count: int, seed: int = 0) -> VllmLoad:
        """One turn: at least `count` requests, which arrive at the same times with every arm."""
        requests = order_requests(count, case, seed)
        arrivals = draw_arrivals(len(requests), case.rate, seed) if case.rate else []
        prompts = self.bench.make_prompts(arm, requests, next(self.seeds))
        return arm.server.serve(prompts, case.clients, self.new_tokens, self.seconds, arrivals)

    def _find_throughput(self, case: LoadCase) -> float:
        """What the unpruned model answers in a second with the most clients and as many questions about an image."""
        own = {other: loads for other, loads in self.arms[0].loads.items() if other.questions == case.questions}
        loads = own[max(own, key=lambda other: other.clients)]
        return float(np.median([len(load.answers) / load.seconds for load in loads]))
