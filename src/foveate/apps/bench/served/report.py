"""What the run in vLLM prints and writes: ratios within a round, and the latencies of all requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch

from foveate.apps.bench.report import format_table
from foveate.apps.bench.served.arms import VllmArm
from foveate.apps.bench.served.cases import LatencyBound, LoadCase
from foveate.apps.bench.served.clients import VllmLoad
from foveate.apps.bench.served.run import VllmResult
from foveate.apps.bench.spread import Spread

PERCENTS = (50, 95, 99)
LEGEND = (
    "Ratios to the unpruned model within a round: medians, in brackets quartiles. Latencies: of 50, 95 and 99 % of all "
    "requests. Limit: stock vLLM on images of as few tokens, which its encoder has less work with too. KV blocks: the "
    "most that were in use. Fit: requests in the KV space that 16 unpruned ones fill."
)
HEADS = (
    "", "prompt tokens", "first token, ms (50, 95, 99 %)", "times unpruned", "each further token, ms (50, 95, 99 %)",
    "requests/s", "times unpruned", "requests/s in time", "KV blocks", "fit",
)  # fmt: skip


def get_first_token(load: VllmLoad) -> float:
    """Seconds of the median request."""
    return float(np.median(load.first))


def get_throughput(load: VllmLoad) -> float:
    """Requests a second."""
    return len(load.answers) / load.seconds


def get_goodput(load: VllmLoad, bound: LatencyBound) -> float:
    """Requests a second that were answered within the bound."""
    good = [a.to_first <= bound.first and a.per_token <= bound.per_token for a in load.answers]
    return sum(good) / load.seconds


def get_percentiles(loads: Sequence[VllmLoad], name: str) -> dict[str, float]:
    """Of the seconds of all requests: `first`, or `per_token`."""
    values = list(chain.from_iterable(getattr(load, name) for load in loads))
    return {str(percent): float(np.percentile(values, percent)) for percent in PERCENTS}


def to_record(result: VllmResult) -> dict[str, Any]:
    """The whole run as JSON."""
    arms = [
        {
            "name": arm.name, "of": arm.limit_of, "prompt": arm.prompt, "fit": arm.fit,
            "cases": [_to_case_record(result, arm, case) for case in arm.loads],
        }
        for arm in result.arms
    ]  # fmt: skip
    return {
        "model": result.name, "blocks": result.blocks, "bound": asdict(result.bound), "notes": list(result.notes),
        "arms": arms, "threads": torch.get_num_threads(),
    }  # fmt: skip


def _to_case_record(result: VllmResult, arm: VllmArm, case: LoadCase) -> dict[str, Any]:
    loads, unpruned = arm.loads[case], result.arms[0].loads[case]
    goodput = partial(get_goodput, bound=result.bound)
    return {
        "questions": case.questions, "clients": case.clients, "rate": case.rate,
        "requests": len(loads[0].answers),
        "seconds": [load.seconds for load in loads],
        "kv_blocks": _get_peak(loads),
        "first_token": asdict(_spread(loads, get_first_token)),
        "first_token_percentiles": get_percentiles(loads, "first"),
        "per_token_percentiles": get_percentiles(loads, "per_token"),
        "requests_a_second": asdict(_spread(loads, get_throughput)),
        "goodput": asdict(_spread(loads, goodput)),
        "first_token_ratio": asdict(_compare(loads, unpruned, get_first_token)),
        "throughput_ratio": asdict(_compare(loads, unpruned, get_throughput)),
    }  # fmt: skip


def to_markdown(result: VllmResult) -> str:
    """A table for every way for requests to arrive."""
    bound = f"In time: {1000 * result.bound.first:.0f} ms to the first token, {1000 * result.bound.per_token:.0f} each."
    lines = [f"{result.name} in vLLM.", *result.notes, "", f"{LEGEND} {bound}"]
    for case, unpruned in result.arms[0].loads.items():
        rows = []
        for arm in result.arms:
            loads = arm.loads[case]
            rows.append(
                [
                    arm.name,
                    str(arm.prompt),
                    _format_percentiles(get_percentiles(loads, "first")),
                    _compare(loads, unpruned, get_first_token).format(1, 2),
                    _format_percentiles(get_percentiles(loads, "per_token")),
                    _spread(loads, get_throughput).format(1, 2),
                    _compare(loads, unpruned, get_throughput).format(1, 2),
                    _spread(loads, partial(get_goodput, bound=result.bound)).format(1, 2),
                    str(_get_peak(loads)),
                    str(arm.fit),
                ]
            )
        lines += ["", f"{case.describe()}:", "", *format_table(HEADS, rows)]
    return "\n".join(lines) + "\n"


def _format_percentiles(values: dict[str, float]) -> str:
    return ", ".join(f"{1000 * value:.0f}" for value in values.values())


def _spread(loads: Sequence[VllmLoad], figure: Callable[[VllmLoad], float]) -> Spread:
    return Spread.from_values([figure(load) for load in loads])


def _compare(own: Sequence[VllmLoad], others: Sequence[VllmLoad], figure: Callable[[VllmLoad], float]) -> Spread:
    return Spread.from_values([figure(load) / figure(other) for load, other in zip(own, others, strict=True)])


def _get_peak(loads: Sequence[VllmLoad]) -> int:
    return max(load.blocks for load in loads)
