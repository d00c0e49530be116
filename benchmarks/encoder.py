"""The vision encoder: its share of the time after pruning, what it wastes, what a glance first would save.

Models have the shape of published ones and random weights: the whole vision encoder and two decoder layers are built.
The decoder's time is that of these layers times the published number of layers, plus everything else once. Calls that
are compared run in turns in one process. Figures are quartiles and medians; ratios are taken within a round. Writes
results/encoder.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoder_glance import glance_clip, glance_qwen
from encoder_timing import LAYERS, LONG, SIZES, Row, build_with_whole_tower, measure_seconds, quartiles, record_seconds
from encoder_waste import compare_types, measure_clip, measure_qwen
from foveate.apps.bench.shapes import DTYPES, SHAPES, Shape, make_example
from foveate.models import family_of
from foveate.models.inputs import drop_raw
from foveate.pipeline.encode import encode
from foveate.pipeline.prune import prune_inputs
from foveate.runtime.timing import prefill

KEEP = 0.1


def measure_decoder(model: Any, inputs: Mapping[str, Any], count: int) -> float:
    """Return the seconds of a prefill with `count` layers, from the time of those that were built."""
    with record_seconds(family_of(model).decoder(model).layers) as spent:
        total = measure_seconds(lambda: prefill(model, inputs))
    return total - sum(spent) + count * statistics.mean(spent)


def measure_share(name: str, model: Any, shape: Shape, side: int, rounds: int) -> Row:
    """Measure the encoder's share of the time to first token, unpruned and pruned."""
    inputs = make_example(model, shape, (side, side))
    text_inputs, count = drop_raw(family_of(model), inputs), SHAPES[name].count_layers()[0]
    spent: dict[str, list[float]] = {"encoder": [], "selection": [], "unpruned": [], "pruned": []}
    for number in range(-1 if rounds > LONG else 0, rounds):
        started = time.perf_counter()
        encoded = encode(model, inputs)
        between = time.perf_counter()
        short = prune_inputs(model, text_inputs, keep=KEEP, encoded=encoded)
        selection = time.perf_counter() - between
        whole = prune_inputs(model, text_inputs, keep=1.0, encoded=encoded)
        laps = {"encoder": between - started, "selection": selection}
        laps["unpruned"] = measure_decoder(model, whole, count)
        laps["pruned"] = measure_decoder(model, short, count)
        if number >= 0:
            for stage, lap in laps.items():
                spent[stage].append(lap)
    tokens, kept = short.report.items[0].total, len(short.report.items[0].kept)
    row: Row = {"what": "standing", "model": name, "side": side, "tokens": tokens, "kept": kept, "rounds": rounds}
    row |= {f"{stage} s": quartiles(laps) for stage, laps in spent.items()}
    rest = {"unpruned": [0.0] * rounds, "pruned": spent["selection"]}
    for arm, more in rest.items():
        parts = zip(spent["encoder"], spent[arm], more, strict=True)
        row[f"share {arm}"] = quartiles([mine / (mine + other + extra) for mine, other, extra in parts])
    row |= count_multiplications(model, name, inputs, whole["input_ids"].shape[1], short["input_ids"].shape[1])
    return row


def count_multiplications(model: Any, name: str, inputs: Mapping[str, Tensor], length: int, short: int) -> Row:
    """Count the multiplications of the layers; the shares by this count do not depend on the machine."""
    core, config = model.base_model, model.config
    vision = config.vision_config
    if name.startswith("qwen"):
        layers, n = core.visual.blocks, len(inputs["pixel_values"])
        whole = len(vision.fullatt_block_indexes)
        keys = whole * n + (len(layers) - whole) * (vision.window_size // vision.patch_size) ** 2
        tower = n * (count_matrices(layers) + 2 * vision.hidden_size * keys)
    else:
        layers, n = core.vision_tower.encoder.layers, (vision.image_size // vision.patch_size) ** 2 + 1
        tiles = inputs["pixel_values"].flatten(0, -4).shape[0]
        tower = tiles * n * (count_matrices(layers) + 2 * vision.hidden_size * n * len(layers))
    text, count = config.get_text_config(), SHAPES[name].count_layers()[0]
    each = count_matrices(core.language_model.layers) / LAYERS
    unpruned, pruned = (count * m * (each + text.hidden_size * m) for m in (length, short))
    counts = {"tower TFLOP": 2e-12 * tower, "unpruned decoder TFLOP": 2e-12 * unpruned}
    counts |= {"share of FLOP unpruned": tower / (tower + unpruned), "share of FLOP pruned": tower / (tower + pruned)}
    return {what: float(f"{value:.4g}") for what, value in counts.items()}


def count_matrices(modules: Any) -> int:
    """Count the parameters that every token is multiplied with."""
    return sum(p.numel() for p in modules.parameters() if p.ndim == 2)


@torch.no_grad()
def measure_model(name: str, dtype: torch.dtype, rounds: int) -> Iterator[Row]:
    """Measure everything on one shape."""
    model, shape = build_with_whole_tower(name, dtype)
    qwen = name.startswith("qwen")
    for side in SIZES[name]:
        fewer = rounds if side < 1000 else LONG
        share = measure_share(name, model, shape, side, fewer)
        yield share
        if qwen or name == "llava-next-7b":
            yield (glance_qwen if qwen else glance_clip)(name, model, shape, share, fewer)
    fewer = LONG if qwen else rounds
    yield from (measure_qwen if qwen else measure_clip)(name, model, shape, fewer)
    if dtype == torch.bfloat16 and name != "llava-next-7b":
        yield compare_types(name, model, shape, fewer)


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--dtype", default="bfloat16", choices=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = Path(__file__).with_name("results").joinpath("encoder.json")
    measured: list[Row] = []
    for name in args.models:
        for row in measure_model(name, DTYPES[args.dtype], args.rounds):
            measured.append({**row, "dtype": args.dtype, "threads": args.threads})
            print(json.dumps(measured[-1]), flush=True)
    others = [row for row in json.loads(path.read_text()) if row["model"] not in args.models] if path.exists() else []
    path.write_text(json.dumps(others + measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
