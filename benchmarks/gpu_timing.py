"""Settings and timing that the parts of `gpu.py` share."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from foveate.apps.bench.figures import Spread
from foveate.apps.bench.memory import measure_peak

FEWEST = 3  # rounds, however long they take
Row = dict[str, Any]
Rows = Mapping[str, Callable[[], Row]]
"""What a part measures, by name, in this order. A row's `faults` are sentences on what is wrong."""


@dataclass(frozen=True)
class GpuSettings:
    """Where to measure ("cpu" or "cuda:0"), and sizes: "full", "small" (minutes on a CPU) or "smallest" (for tests)."""

    device: str
    scale: str

    @property
    def torch_device(self) -> torch.device:
        """The device for torch."""
        return torch.device(self.device)

    def choose(self, full: Any, small: Any, smallest: Any) -> Any:
        """The value for the scale."""
        return {"full": full, "small": small, "smallest": smallest}[self.scale]


class NotRun(Exception):
    """A row that cannot be measured here, which is no fault of the program; the message says why."""


def measure_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one call: between two events of a GPU that has nothing else to do, else by the clock."""
    if device.type != "cuda":
        started = time.perf_counter()
        call()
        return time.perf_counter() - started
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def compare_in_turns(
    calls: Mapping[str, Callable[[], object]], device: torch.device, *, rounds: int, seconds: float
) -> Row:
    """Time calls in turns, each round starting with another one, for at most about `seconds`.

    Returns milliseconds and peak memory of every call, and how many times faster the first one is than each other one
    of the same round.
    """
    for call in calls.values():
        call()
    spent: dict[str, list[float]] = {name: [] for name in calls}
    names, started = list(calls), time.perf_counter()
    for number in range(rounds):
        if number >= FEWEST and time.perf_counter() - started > seconds:
            break
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            spent[name].append(measure_seconds(calls[name], device))
    first = spent[names[0]]
    ratios = {name: [a / b for a, b in zip(spent[name], first, strict=True)] for name in names[1:]}
    peaks = {name: measure_peak(call, device) for name, call in calls.items()}
    return {
        "rounds": len(first),
        "ms": {name: to_spread([1000 * value for value in values]) for name, values in spent.items()},
        "times faster": {name: to_spread(values) for name, values in ratios.items()},
        "peak bytes": {name: None if peak is None else peak.above for name, peak in peaks.items()},
    }


def to_spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    return {end: float(f"{value:.4g}") for end, value in asdict(Spread.from_values(values)).items()}
