"""Where pruning inside vLLM stops paying: many requests at a time, many questions about an image, random arrivals.

The same as `foveate bench --engine vllm`, in processor time, so that other work on the machine does not count. What
a call measures is added to the model's record in results/serving/load.json; the first call's bound stays.

    .venv/engine/bin/python benchmarks/load.py --model llava-1.5-7b --questions 4,16 --rate 0.8x
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from foveate.apps.bench.served import plot, run, to_markdown, to_record
from foveate.apps.bench.served.cases import LatencyBound, make_cases, parse_rates, parse_reuse
from foveate.apps.bench.settings import parse_batches, parse_budgets, parse_sizes
from foveate.apps.results import read_versions
from foveate.runtime.load import quiet

OUT = Path(__file__).parent / "results" / "serving" / "load.json"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def merge(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """The old record with the cases of the new one, in place of those with as many questions about an image."""
    if old is None:
        return new
    counts = {case["questions"] for case in new["arms"][0]["cases"]}
    for arm, known in zip(new["arms"], old["arms"], strict=True):
        if arm["name"] != known["name"]:
            raise SystemExit(f"{OUT} has other arms: give the same --keep, --method and --reuse, or remove it.")
        kept = [case for case in known["cases"] if case["questions"] not in counts]
        arm["cases"] = sorted(kept + arm["cases"], key=lambda case: case["questions"])
    return new


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llava-1.5-7b")
    parser.add_argument("--method", default="foveate")
    parser.add_argument("--keep", default="0.111")
    parser.add_argument("--questions", default="1", help="about each image")
    parser.add_argument("--concurrency", default="1,4,16", help="requests at a time")
    parser.add_argument("--rate", default=None, help="requests a second that come at random, as 0.8x")
    parser.add_argument("--reuse", default="question,auto")
    parser.add_argument("--requests", type=int, default=4, help="of a turn, or more")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--layers", type=int, help="of a shape; default 1")
    parser.add_argument("--image-size", help="default: the model's own")
    parser.add_argument("--new-tokens", type=int, default=8)
    parser.add_argument("--clock", choices=CLOCKS, default="cpu")
    options = parser.parse_args()
    records = json.loads(OUT.read_text()) if OUT.exists() else {}
    old = records.get(options.model)
    clients, counts = (parse_batches(text) for text in (options.concurrency, options.questions))
    sizes = parse_sizes(options.image_size) if options.image_size else None
    with quiet():
        result = run(
            options.model, parse_budgets(options.method, options.keep),
            make_cases(clients, counts, parse_rates(options.rate)), requests=options.requests,
            new_tokens=options.new_tokens, rounds=options.rounds, layers=options.layers, sizes=sizes,
            reuse=parse_reuse(options.reuse), bound=LatencyBound(**old["bound"]) if old else None,
            seconds=CLOCKS[options.clock],
        )  # fmt: skip
    print(to_markdown(result))
    settings = {"layers": options.layers, "rounds": options.rounds, "clock": options.clock}
    record = merge(old, to_record(result) | settings | {"versions": read_versions("vllm")})
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(records | {options.model: record}, indent=1) + "\n")
    plot(record, OUT.with_name(f"load-{options.model}.png"))


if __name__ == "__main__":
    main()
