"""What the run of vLLM prints and writes: ratios within a round, their median and quartiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from foveate.apps.bench.figures import Spread
from foveate.apps.bench.report import row
from foveate.apps.bench.served.clients import Load
from foveate.apps.bench.served.run import Arm, Served

LEGEND = (
    "Ratios to the unpruned model within a round: medians, in brackets quartiles. Limit: stock vLLM on pictures of as "
    "few tokens, which its encoder has less work with too. KV blocks: the most that were in use. Fit: requests in "
    "the KV space that 16 unpruned ones fill."
)


def first_token(load: Load) -> float:
    """Seconds, the median request's."""
    return float(np.median(load.first))


def throughput(load: Load) -> float:
    """Requests a second."""
    return len(load.first) / load.seconds


def record(served: Served) -> dict[str, Any]:
    """Everything, as JSON has it."""
    whole = served.arms[0]
    arms = []
    for arm in served.arms:
        cases = [
            {
                "clients": clients, "seconds": [load.seconds for load in loads], "kv_blocks": _peak(loads),
                "first_token": asdict(Spread.of([first_token(load) for load in loads])),
                "requests_a_second": asdict(Spread.of([throughput(load) for load in loads])),
                "first_token_ratio": asdict(_ratio(arm, whole, clients, first_token)),
                "throughput_ratio": asdict(_ratio(arm, whole, clients, throughput)),
            }
            for clients, loads in arm.loads.items()
        ]  # fmt: skip
        arms.append({"name": arm.name, "of": arm.of, "prompt": arm.prompt, "fit": arm.fits, "cases": cases})
    return {"model": served.name, "blocks": served.blocks, "notes": list(served.notes), "arms": arms}


def markdown(served: Served) -> str:
    """A table for every number of clients."""
    whole = served.arms[0]
    lines = [f"{served.name} in vLLM.", *served.notes, "", LEGEND]
    heads = (
        "", "prompt tokens", "time to first token, ms", "times unpruned", "requests/s", "times unpruned", "KV blocks",
        "fit",
    )  # fmt: skip
    for clients in whole.loads:
        lines += ["", f"{clients} at a time:", "", row(heads), row(["---"] * len(heads))]
        for arm in served.arms:
            loads = arm.loads[clients]
            lines.append(row([
                arm.name, str(arm.prompt), Spread.of([first_token(load) for load in loads]).text(1000, 0),
                _ratio(arm, whole, clients, first_token).text(1, 2),
                Spread.of([throughput(load) for load in loads]).text(1, 2),
                _ratio(arm, whole, clients, throughput).text(1, 2), str(_peak(loads)), str(arm.fits),
            ]))  # fmt: skip
    return "\n".join(lines) + "\n"


def _ratio(arm: Arm, whole: Arm, clients: int, figure: Any) -> Spread:
    pairs = zip(arm.loads[clients], whole.loads[clients], strict=True)
    return Spread.of([figure(own) / figure(other) for own, other in pairs])


def _peak(loads: Sequence[Load]) -> int:
    return max(load.blocks for load in loads)
