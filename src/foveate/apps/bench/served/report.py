"""What the run in vLLM prints and writes: ratios within a round, their median and quartiles."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from foveate.apps.bench.report import format_table
from foveate.apps.bench.served.clients import VllmLoad
from foveate.apps.bench.served.run import VllmArm, VllmResult
from foveate.apps.bench.spread import Spread

LEGEND = (
    "Ratios to the unpruned model within a round: medians, in brackets quartiles. Limit: stock vLLM on images of as "
    "few tokens, which its encoder has less work with too. KV blocks: the most that were in use. Fit: requests in "
    "the KV space that 16 unpruned ones fill."
)
HEADS = (
    "", "prompt tokens", "time to first token, ms", "times unpruned", "requests/s", "times unpruned", "KV blocks", "fit"
)  # fmt: skip


def get_first_token(load: VllmLoad) -> float:
    """Seconds of the median request."""
    return float(np.median(load.first))


def get_throughput(load: VllmLoad) -> float:
    """Requests a second."""
    return len(load.first) / load.seconds


def to_record(result: VllmResult) -> dict[str, Any]:
    """The whole run as JSON."""
    unpruned = result.arms[0]
    arms = []
    for arm in result.arms:
        cases = [
            {
                "clients": clients,
                "seconds": [load.seconds for load in loads],
                "kv_blocks": _get_peak(loads),
                "first_token": asdict(Spread.from_values([get_first_token(load) for load in loads])),
                "requests_a_second": asdict(Spread.from_values([get_throughput(load) for load in loads])),
                "first_token_ratio": asdict(_compare(arm, unpruned, clients, get_first_token)),
                "throughput_ratio": asdict(_compare(arm, unpruned, clients, get_throughput)),
            }
            for clients, loads in arm.loads.items()
        ]
        arms.append({"name": arm.name, "of": arm.limit_of, "prompt": arm.prompt, "fit": arm.fit, "cases": cases})
    return {
        "model": result.name, "blocks": result.blocks, "notes": list(result.notes), "arms": arms,
        "threads": torch.get_num_threads(),
    }  # fmt: skip


def to_markdown(result: VllmResult) -> str:
    """A table for every number of clients."""
    unpruned = result.arms[0]
    lines = [f"{result.name} in vLLM.", *result.notes, "", LEGEND]
    for clients in unpruned.loads:
        rows = [
            [
                arm.name,
                str(arm.prompt),
                Spread.from_values([get_first_token(load) for load in arm.loads[clients]]).format(1000, 0),
                _compare(arm, unpruned, clients, get_first_token).format(1, 2),
                Spread.from_values([get_throughput(load) for load in arm.loads[clients]]).format(1, 2),
                _compare(arm, unpruned, clients, get_throughput).format(1, 2),
                str(_get_peak(arm.loads[clients])),
                str(arm.fit),
            ]
            for arm in result.arms
        ]
        lines += ["", f"{clients} at a time:", "", *format_table(HEADS, rows)]
    return "\n".join(lines) + "\n"


def _compare(arm: VllmArm, unpruned: VllmArm, clients: int, figure: Any) -> Spread:
    pairs = zip(arm.loads[clients], unpruned.loads[clients], strict=True)
    return Spread.from_values([figure(own) / figure(other) for own, other in pairs])


def _get_peak(loads: Sequence[VllmLoad]) -> int:
    return max(load.blocks for load in loads)
