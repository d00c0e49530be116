"""What a second question about an image costs beside the first. Writes results/second_question.json.

python -m benchmarks.second_question

Two measurements, each a ratio inside one run. In this process, on the shape of Qwen2.5-VL-3B with an image of 576
tokens, to the first token: encoder, choice and prefill, beside choice and prefill. And over HTTP: a new image is sent
to a server, then the same image with another question; one new token each.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import torch
import uvicorn

from benchmarks.encoder_timing import quartiles
from foveate.apps.bench.shapes import SHAPES, build, make_example
from foveate.apps.serve.app import make_app
from foveate.apps.serve.run import address, bind, make_config
from foveate.apps.serve.settings import ServeSettings
from foveate.pipeline.encode import encode
from foveate.pipeline.prune import prune_inputs
from foveate.runtime.load import load, quiet
from foveate.runtime.timing import prefill
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene

OUT = Path(__file__).parent / "results" / "second_question.json"
KEEP = 0.1
QUESTIONS = ("how many objects are there ?", "what color is the star ?")


def measure_pairs(
    pairs: Iterable[tuple[Callable[[], object], Callable[[], object]]], warm_up: int
) -> dict[str, object]:
    """Time both calls of each pair, one after the other; the first pairs warm up."""
    ratios, seconds = [], []
    for number, (first, second) in enumerate(pairs):
        laps = []
        for call in (first, second):
            started = time.perf_counter()
            call()
            laps.append(time.perf_counter() - started)
        if number >= warm_up:
            seconds.append(laps)
            ratios.append(laps[1] / laps[0])
    medians = [float(f"{statistics.median(column):.4g}") for column in zip(*seconds, strict=True)]
    return {"pairs": len(ratios), "ratio": quartiles(ratios), "seconds": medians}


@torch.no_grad()
def measure_shape(name: str, rounds: int) -> dict[str, object]:
    """The first and the second question in this process."""
    shape = SHAPES[name]
    model, scale = build(shape, dtype=torch.bfloat16)
    inputs = make_example(model, shape, shape.size)
    encoded = encode(model, inputs)

    def first() -> object:
        return prefill(model, prune_inputs(model, inputs, keep=KEEP))

    def second() -> object:
        return prefill(model, prune_inputs(model, inputs, keep=KEEP, encoded=encoded))

    result = measure_pairs(((first, second) for _ in range(rounds + 1)), 1)
    return {"shape": name, "size": shape.size, "scale": scale.describe(), **result}


@contextmanager
def run_server(name: str) -> Iterator[str]:
    """A server of a bundled model in a thread; its URL."""
    with quiet():
        loaded = load(name)
    with bind("127.0.0.1", 0) as listener:
        server = uvicorn.Server(make_config(make_app(loaded, ServeSettings(keep=KEEP)), closing=5, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield address(listener)
        finally:
            server.should_exit = True
            thread.join()


def measure_http(name: str, rounds: int) -> dict[str, object]:
    """The first and the second question over HTTP, the image sent with both."""
    with run_server(name) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as client:

        def make_request(number: int, question: str) -> Callable[[], object]:
            file = BytesIO()
            draw_scene(sample_scene(0, number)).save(file, "PNG")
            source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
            content = [{"type": "image_url", "image_url": {"url": source}}, {"type": "text", "text": question}]
            request = {"model": name, "max_tokens": 1, "messages": [{"role": "user", "content": content}]}
            return lambda: client.post("/v1/chat/completions", json=request).raise_for_status()

        pairs = ((make_request(n, QUESTIONS[0]), make_request(n, QUESTIONS[1])) for n in range(rounds + 3))
        return {"model": name, "over": "HTTP", **measure_pairs(pairs, 3)}


def main() -> None:
    """Measure both and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    results = [measure_shape("qwen2.5-vl-3b", min(options.rounds, 7))]
    results += [measure_http(name, options.rounds) for name in ("bundled", "bundled-qwen")]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(options.out.read_text())


if __name__ == "__main__":
    main()
