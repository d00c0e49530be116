"""Peak memory of the encoder and the selection where some tiles are encoded, beside all of them.

Three shapes with the widths of published models, random weights, two layers of the tower and one of the decoder: the
peak does not grow with their number, as nothing of a layer stays. Every measurement is in a process of its own, in
float32 on one thread, the smallest of five after a warm-up. Writes results/tile_memory.json.

    python benchmarks/tile_memory.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.apps.bench import published
from foveate.apps.bench.memory import measure_peak
from foveate.apps.encoder import MIB
from foveate.pipeline.prune import prune_inputs

OUT = Path(__file__).parent / "results" / "tile_memory.json"
KEEP, LAYERS, WORDS, REPEATS = 0.111, 2, 40, 5
IMAGE_ID, VOCABULARY = 900, 1000  # nothing here depends on the size of a vocabulary
TEXT = {"num_hidden_layers": 1, "vocab_size": VOCABULARY, "intermediate_size": 64, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "num_attention_heads": 16, "num_key_value_heads": 16}  # fmt: skip


@dataclass(frozen=True)
class TileShape:
    """A model in the widths of a published one, and its image: `rows` x `columns` tiles and an overview.

    `make_prompt` makes the ids of the image, `tile` tokens each.
    """

    model_type: str
    config: Mapping[str, Any]
    layout: tuple[int, int]
    tile: int
    arms: tuple[tuple[float, int | None], ...]
    make_ids: Callable[[int, int, int], list[int]]

    @property
    def count(self) -> int:
        """All tiles, the overview among them."""
        return self.layout[0] * self.layout[1] + 1


def mark_nothing(rows: int, columns: int, tile: int) -> list[int]:
    """One run of placeholders between two marks."""
    return [901, *[IMAGE_ID] * ((rows * columns + 1) * tile), 902]


def mark_newlines(rows: int, columns: int, tile: int) -> list[int]:
    """One run, with a placeholder for the end of every row of the joined tiles."""
    side = int(tile**0.5)
    return [IMAGE_ID] * ((rows * columns + 1) * tile + rows * side)


def mark_tiles(rows: int, columns: int, tile: int) -> list[int]:
    """A fence and a mark before every tile, a fence behind the overview."""
    own = [id for n in range(rows * columns + 1) for id in (901, 910 + n, *[IMAGE_ID] * tile)]
    return [*own, 901]


ARMS = ((1.0, None), (0.4, None), (0.4, 150 * MIB), (1.0, 150 * MIB))
SHAPES = {
    "llava-next-7b, 672 pixels": TileShape(
        "llava_next",
        {
            **published.LLAVA_NEXT, "image_token_index": IMAGE_ID,
            "text_config": {**TEXT, "model_type": "llama", "hidden_size": 4096},
            "vision_config": {**published.CLIP, "num_hidden_layers": LAYERS + 1},
        },
        (2, 2), 576, ARMS, mark_newlines,
    ),
    "internvl-8b, 12 tiles": TileShape(
        "internvl",
        {
            "image_token_id": IMAGE_ID, "downsample_ratio": 0.5,
            "text_config": {**TEXT, "model_type": "qwen2", "hidden_size": 3584},
            "vision_config": {
                "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": LAYERS, "num_attention_heads": 16,
                "image_size": [448, 448], "patch_size": [14, 14],
            },
        },
        (3, 4), 256, ARMS, mark_nothing,
    ),
    "smolvlm-2.2b, 12 tiles": TileShape(
        "smolvlm",
        {
            "image_token_id": IMAGE_ID, "scale_factor": 3, "pad_token_id": 0,
            "text_config": {**TEXT, "model_type": "llama", "hidden_size": 2048},
            "vision_config": {
                "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": LAYERS, "num_attention_heads": 16,
                "image_size": 378, "patch_size": 14,
            },
        },
        (3, 4), 81, ARMS, mark_tiles,
    ),
}  # fmt: skip


@torch.no_grad()
def build(shape: TileShape) -> tuple[Any, dict[str, Tensor]]:
    """The model of a shape, and a prompt with one image of noise."""
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    config = CONFIG_MAPPING[shape.model_type](**shape.config)
    config.foveate_template = {}  # its prompts are random words
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    side = config.vision_config.image_size
    side = side if isinstance(side, int) else side[0]
    pixels = torch.randn(shape.count, 3, side, side)
    inputs = {"pixel_values": pixels}
    if shape.model_type == "llava_next":
        inputs = {"pixel_values": pixels[None], "image_sizes": torch.tensor([[side * n for n in shape.layout]])}
    if shape.model_type == "smolvlm":
        inputs = {"pixel_values": pixels[None], "pixel_attention_mask": torch.ones(1, shape.count, side, side).long()}
    ids = [1, *shape.make_ids(*shape.layout, shape.tile), *torch.randint(10, 800, (WORDS,)).tolist()]
    return model, {**inputs, "input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()}


@torch.no_grad()
def measure(name: str, encode: float, memory: int | None) -> dict[str, Any]:
    """The row of one arm of one shape."""
    torch.set_num_threads(1)
    model, inputs = build(SHAPES[name])
    settings = {"keep": KEEP, "encode": encode, "max_encoder_memory": memory}
    short = prune_inputs(model, inputs, **settings)
    item, peaks = short.report.items[0], []
    encoded = sum(item.encoded) if item.encoded else SHAPES[name].count
    del short
    for _ in range(REPEATS):
        peak = measure_peak(lambda: prune_inputs(model, inputs, **settings), model.device)
        if peak is None:
            raise SystemExit("Peak memory is counted on Linux alone.")
        peaks.append(peak.above)
    return {
        "encode": encode, "max_encoder_memory": memory, "tiles": [encoded, SHAPES[name].count],
        "visual_tokens": item.total, "peak_mib": round(min(peaks) / MIB, 1),
    }  # fmt: skip


def run(name: str, encode: float, memory: int | None) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", name, str(encode), *([] if memory is None else [str(memory)])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Write the rows of all shapes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    one = parser.parse_args().one
    if one:
        print(json.dumps(measure(one[0], float(one[1]), int(one[2]) if len(one) > 2 else None)))
        return
    results = {}
    for name, shape in SHAPES.items():
        rows = [run(name, *arm) for arm in shape.arms]
        for row in rows:
            row["of_all_tiles"] = round(row["peak_mib"] / rows[0]["peak_mib"], 3)
            print(name, row, flush=True)
        results[name] = rows
    OUT.write_text(json.dumps({"keep": KEEP, "torch": torch.__version__, "shapes": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
