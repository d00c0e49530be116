"""How long requests wait for the encoders of others: 16 at a time, at several numbers of tokens in a step of vLLM.

A step of the engine runs the encoder for all images whose prompts it goes on with, and then the decoder. The engine
fills a step by the tokens of the prompts, which are the kept ones: the fewer tokens stay, the more images are in a
step, and no prompt of the step has its first token before all of them are encoded. `max_num_batched_tokens` limits
the tokens of a step. Writes results/serving/encoder_steps.json.

    .venv/engine/bin/python benchmarks/encoder_steps.py [--model qwen2.5-vl-3b --layers 1 --image-size 672]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from foveate.apps.bench.served import to_markdown, to_record
from foveate.apps.bench.served.arms import VllmArm, VllmBench
from foveate.apps.bench.served.cases import LoadCase
from foveate.apps.bench.served.clients import VllmLoad, VllmServer
from foveate.apps.bench.served.run import LoadTurns, VllmResult
from foveate.apps.bench.settings import parse_sizes
from foveate.apps.results import read_versions
from foveate.runtime.load import quiet
from foveate.runtime.load_options import LoadOptions
from load import CLOCKS

OUT = Path(__file__).parent / "results" / "serving" / "encoder_steps.json"
KEEP = 0.111
STEPS = (4096, 512, 256)  # tokens; the first is vLLM's default on CPUs
CLIENTS = 16
NEW = 8


class StepServer:
    """A server that takes at most so many tokens into a step, as if it had been started so."""

    def __init__(self, server: VllmServer, most: int) -> None:
        self.server, self.most = server, most

    def serve(self, *args: Any) -> VllmLoad:
        """As the server's own."""
        scheduler = self.server.engine.engine_core.engine_core.scheduler
        largest = scheduler.vllm_config.model_config.max_model_len
        scheduler.max_num_scheduled_tokens = self.most
        scheduler.max_num_encoder_input_tokens = max(self.most, largest)  # no less than an image
        return self.server.serve(*args)


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled-qwen")
    parser.add_argument("--image-size", default="336")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--layers", type=int, help="of a shape")
    parser.add_argument("--clock", choices=CLOCKS, default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, quiet():
        bench = VllmBench(
            options.model, Path(made), options.layers, parse_sizes(options.image_size), LoadOptions(), NEW
        )
        bench.options["max_num_batched_tokens"] = STEPS[0]
        arms = [VllmArm("unpruned", bench.start_server(), bench.size, {})]
        pruning = bench.start_server(keep=KEEP)
        for most in STEPS:
            server: Any = StepServer(pruning, most)
            arms.append(VllmArm(f"foveate, {most} tokens in a step", server, bench.size, {}))
        turns = LoadTurns(bench, arms, CLIENTS, NEW, CLOCKS[options.clock])
        bound = turns.warm_up(None)
        turns.measure(LoadCase(clients=CLIENTS), options.rounds, lambda: None)
    result = VllmResult(options.model, arms, bench.blocks, bound, tuple(bench.notes))
    print(to_markdown(result))
    settings = {"layers": options.layers, "rounds": options.rounds, "clock": options.clock}
    record = to_record(result) | settings | {"versions": read_versions("vllm")}
    records = json.loads(OUT.read_text()) if OUT.exists() else {}
    OUT.write_text(json.dumps(records | {options.model: record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
