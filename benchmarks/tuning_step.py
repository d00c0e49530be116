"""Time and peak memory of a training step under pruning, as shares of the unpruned step, in one run.

LoRA on the language model of LLaVA-1.5's shape with random weights, 4 of its 32 layers and 3 of the 24 of its vision
tower, which keeps their proportion. The tower runs, frozen, as in LLaVA's own recipe. The time is the process's own on
one thread, so that other programs have no part in it; both steps take turns. Writes results/tuning/step.json.

    OMP_NUM_THREADS=1 python benchmarks/tuning_step.py
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

import foveate
from foveate.apps.bench.memory import measure_peak
from foveate.apps.bench.shapes import SHAPES, build, make_example

OUT = Path(__file__).parent / "results" / "tuning" / "step.json"
ANSWER = 16  # tokens at the end that the loss is taken on


def take_step(model: Any, batch: dict[str, Any], keep: float) -> float:
    """One forward and backward pass; its seconds."""
    started = time.process_time()
    with foveate.pruning(model, keep=keep):
        model(**batch).loss.backward()
    for parameter in model.parameters():
        parameter.grad = None
    return time.process_time() - started


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=float, default=0.1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape = SHAPES["llava-1.5-7b"]
    stock, scale = build(shape, layers=options.layers)
    batch = make_example(stock, shape, shape.size)
    batch["labels"] = batch["input_ids"].clone()
    batch["labels"][:, :-ANSWER] = -100
    model = get_peft_model(stock, LoraConfig(r=16, target_modules=r".*language_model.*\.(q|k|v|o)_proj")).train()
    seconds: dict[float, list[float]] = {1.0: [], options.keep: []}
    peaks: dict[float, list[int]] = {1.0: [], options.keep: []}
    for number in range(options.rounds + 1):
        for keep in seconds:
            taken: list[float] = []
            peak = measure_peak(lambda: taken.append(take_step(model, batch, keep)), stock.device)  # noqa: B023
            if number:  # the first round warms up
                seconds[keep] += taken
                peaks[keep] += [] if peak is None else [peak.above]
                print(keep, taken, peak, flush=True)
    result = {
        "scale": scale.describe(), "tokens": batch["input_ids"].shape[1], "keep": options.keep,
        "seconds": {str(k): v for k, v in seconds.items()}, "peak_bytes": {str(k): v for k, v in peaks.items()},
        "time_ratio": median(seconds[options.keep]) / median(seconds[1.0]),
        "memory_ratio": min(peaks[options.keep]) / min(peaks[1.0]),
    }  # fmt: skip
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(result, indent=1))
    print(f"time {result['time_ratio']:.3f}, peak memory {result['memory_ratio']:.3f} of the unpruned step")


if __name__ == "__main__":
    main()
