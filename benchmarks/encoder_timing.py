"""Timing and comparison of calls for `encoder.py`."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.apps.bench.memory import measure_peak
from foveate.apps.bench.shapes import SHAPES, Shape, build

LAYERS = 2  # of the decoder
LONG = 2  # rounds of calls that take so long that they need no warm-up
SIZES = {"llava-1.5-7b": (336,), "llava-next-7b": (672,), "qwen2.5-vl-3b": (448, 896, 1344)}
Calls = Mapping[str, Callable[[], object]]
Row = dict[str, Any]


def build_with_whole_tower(name: str, dtype: torch.dtype) -> tuple[Any, Shape]:
    """Build a stock model with the whole vision encoder and the first layers of the decoder."""
    shape = SHAPES[name]
    text = {**shape.config["text_config"], "num_hidden_layers": LAYERS}
    shape = replace(shape, config={**shape.config, "text_config": text})
    return build(shape, LAYERS, dtype)[0], shape


def measure_seconds(call: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def time_in_turns(calls: Calls, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every call in every round; each round starts with another call."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values() if rounds > LONG else ():
        call()  # a warm-up
    for number in range(rounds):
        names = list(calls)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            spent[name].append(measure_seconds(calls[name]))
    return spent


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    three = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return [float(f"{value:.4g}") for value in three]


@contextmanager
def record_seconds(modules: Sequence[Any]) -> Iterator[list[float]]:
    """Record the seconds of every call of these modules inside the block."""
    started: list[float] = []
    spent: list[float] = []
    handles = [m.register_forward_pre_hook(lambda *_: started.append(time.perf_counter())) for m in modules]
    handles += [m.register_forward_hook(lambda *_: spent.append(time.perf_counter() - started.pop())) for m in modules]
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()


def compare(name: str, side: int, calls: Calls, rounds: int, *, peaks: bool = False) -> Row:
    """Return the time of every call relative to the first one, and with `peaks` its memory on top of the weights."""
    spent = time_in_turns(calls, rounds)
    first, *_ = calls
    row: Row = {"what": f"beside {first}", "model": name, "side": side, "rounds": rounds}
    row["s"] = {call: quartiles(laps) for call, laps in spent.items()}
    row["ratio"] = {
        call: quartiles([lap / stock for lap, stock in zip(laps, spent[first], strict=True)])
        for call, laps in spent.items()
        if call != first
    }
    if peaks:
        memory = {call: measure_peak(run, torch.device("cpu")) for call, run in calls.items()}
        row["peak MiB"] = {call: round(peak.above / 2**20) for call, peak in memory.items() if peak}
    return row


def with_gradients(call: Callable[[], Any]) -> Callable[[], Any]:
    """Return the call as a caller without `torch.no_grad()` makes it."""

    def run() -> Any:
        with torch.enable_grad():
            return call()

    return run


def with_attention(module: Any, implementation: str, call: Callable[[], Any]) -> Callable[[], Any]:
    """Return the call with another attention implementation in `module`."""

    def run() -> Any:
        before = module.config._attn_implementation
        module.set_attn_implementation(implementation)
        try:
            return call()
        finally:
            module.set_attn_implementation(before)

    return run


def encode_clip(model: Any, tiles: Tensor) -> Tensor:
    """Encode tiles (n, 3, side, side) as LLaVA's stock encoder does, without joining them."""
    core, layer = model.base_model, model.config.vision_feature_layer
    states = core.vision_tower(tiles, output_hidden_states=layer).hidden_states[layer]
    features: Tensor = core.multi_modal_projector(states[:, 1:])
    return features
