"""Several questions about one image inside vLLM, one after the other, in one run of all ways to answer them.

Unpruned, later questions reuse the image's KV from the prefix cache. Chosen for each question, tokens are prefilled
again, and without the store of features (`feature_cache_gib`) the image is encoded again too. Chosen for the picture
alone (`reuse`, or a method that ignores the question), their KV is shared. Writes a model's record into
results/serving/questions.json.

    .venv/engine/bin/python benchmarks/questions.py [--model qwen2.5-vl-3b]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foveate.apps.bench.spread import Spread
from foveate.runtime.load import quiet
from foveate.runtime.load_options import LoadOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from foveate.apps.bench.served.arms import VllmArm, VllmBench

OUT = Path(__file__).parent / "results" / "serving" / "questions.json"
KEEP = 0.111
STORES = {"without store": 0, "with store": 1}  # GiB
ARMS = (  # name, store, settings of a request
    ("foveate, no store", "without store", {}),
    ("foveate", "with store", {}),
    ("foveate, reuse=auto", "with store", {"reuse": "auto"}),
    ("foveate, reuse=picture", "with store", {"reuse": "picture"}),
    ("divprune", "with store", {"method": "divprune"}),
)
NEW = 1
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
TEXT = "what is in the picture a red square on blue ground how many circles are there"


def make_arms(bench: VllmBench) -> list[VllmArm]:
    """The unpruned one, then every way to prune: two engines, with and without a store of features."""
    from foveate.apps.bench.served.arms import VllmArm

    arms = [VllmArm("unpruned", bench.start_server(), bench.size, {})]
    servers = {name: bench.start_server(keep=KEEP, feature_cache_gib=gib) for name, gib in STORES.items()}
    for name, store, settings in ARMS:
        options = {"mm_processor_kwargs": {"foveate": {"keep": KEEP, **settings}}}
        arms.append(VllmArm(name, servers[store], bench.size, options))
    return arms


def make_prompts(bench: VllmBench, arm: VllmArm, seed: int, count: int) -> list[dict[str, Any]]:
    """Make prompts about one image with different questions."""
    noise = np.random.default_rng(seed).integers(0, 256, (*arm.size, 3), dtype=np.uint8)
    words = TEXT.split()
    questions = [" ".join(words[number:] + words[:number]) for number in range(count)]
    return [bench.make_prompt(noise, question, arm.options) for question in questions]


def measure(
    bench: VllmBench, arms: list[VllmArm], rounds: int, count: int, clock: Callable[[], float]
) -> Iterator[dict[str, list[list[float]]]]:
    """Yield after every round the seconds of every question in every round so far, by arm.

    Every arm has its own image, which no other one has seen.
    """
    seconds: dict[str, list[list[float]]] = {arm.name: [] for arm in arms}
    for turn in range(rounds + 1):
        for number, arm in list(enumerate(arms))[:: 1 if turn % 2 else -1]:
            prompts = make_prompts(bench, arm, turn * len(arms) + number, count if turn else 2)
            load = arm.server.serve(prompts, 1, NEW, clock)
            arm.prompt = load.prompt
            if turn:  # the first is a warm-up
                seconds[arm.name].append(load.first)
        if turn:
            yield seconds


def summarize(arms: list[VllmArm], seconds: dict[str, list[list[float]]], count: int) -> list[dict[str, Any]]:
    """One row per arm: milliseconds, ratios to the unpruned arm of the same round, KV blocks of a request."""
    from foveate.apps.bench.served.clients import count_blocks

    whole, rows = seconds[arms[0].name], []
    for arm in arms:
        own = seconds[arm.name]
        totals = [[sum(a[:n]) / sum(b[:n]) for a, b in zip(own, whole, strict=True)] for n in range(1, count + 1)]
        rows.append(
            {
                "arm": arm.name,
                "first_ms": 1000 * float(np.median([each[0] for each in own])),
                "second_ms": 1000 * float(np.median([each[1] for each in own])),
                "later_ms": 1000 * float(np.median([part for each in own for part in each[2:]])),
                "kv_blocks": count_blocks(arm.prompt, NEW),
                "total_times_unpruned_by_questions": [vars(Spread.from_values(total)) for total in totals],
            }
        )
    return rows


def main() -> None:
    """Measure in turns and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="llava-1.5-7b", help="a shape of `foveate bench`")
    parser.add_argument("--layers", type=int, default=2, help="layers of the decoder and of the tower")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: of the process, beside other work")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    from foveate.apps.bench.served.arms import VllmBench

    with tempfile.TemporaryDirectory() as made, quiet():
        bench = VllmBench(options.model, Path(made), options.layers, None, LoadOptions(), NEW)
        arms = make_arms(bench)
        rounds = measure(bench, arms, options.rounds, options.questions, CLOCKS[options.clock])
        for done, seconds in enumerate(rounds, 1):
            rows = summarize(arms, seconds, options.questions)
            settings = {"layers": options.layers, "keep": KEEP, "rounds": done, "clock": options.clock}
            record = {**settings, "threads": torch.get_num_threads(), "arms": rows, "notes": bench.notes}
            write_record(options.out, options.model, record)
    print(json.dumps(rows, indent=1))


def write_record(path: Path, model: str, record: dict[str, Any]) -> None:
    """Put a model's record in the place of its earlier one."""
    records = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**records, model: record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
