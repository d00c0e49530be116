"""Peak memory of the encoder and the selection where some tiles are encoded, beside all of them.

Three shapes with the widths of published models, random weights, two layers of the tower (three of LLaVA's, which
reads the last but one) and one of the decoder: more layers need no more, as nothing of a layer stays. In float32. The
tensors that are alive at once are counted, which is exact and the same on every machine. Their sizes do not depend on
values, so large products are not computed: random values of the same shape stand for them (`--compute` computes them,
for minutes). What a product needs within itself is not counted. Writes results/tile_memory.json.

    python benchmarks/tile_memory.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from foveate.apps.bench import published
from foveate.apps.bench.shapes import build_random
from foveate.apps.encoder import MIB
from foveate.models.live_memory import LiveMemory
from foveate.pipeline.prune import prune_inputs

OUT = Path(__file__).parent / "results" / "tile_memory.json"
KEEP, LAYERS, WORDS = 0.111, 2, 40
LARGE = 2**20  # numbers
PRODUCTS = {
    torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default,
    torch.ops.aten.convolution.default, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
}  # fmt: skip
IMAGE_ID, VOCABULARY = 900, 1000  # nothing here depends on the size of a vocabulary
TEXT = {"num_hidden_layers": 1, "vocab_size": VOCABULARY, "intermediate_size": 64, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "num_attention_heads": 16, "num_key_value_heads": 16}  # fmt: skip


@dataclass(frozen=True)
class TileShape:
    """A model in the widths of a published one, and its image: `rows` x `columns` tiles and an overview.

    `make_ids` makes the ids of the image, of `tile` tokens for each tile.
    """

    model_type: str
    config: Mapping[str, Any]
    layout: tuple[int, int]
    tile: int
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
        (2, 2), 576, mark_newlines,
    ),
    "internvl-8b, 12 tiles": TileShape(
        "internvl",
        {
            "image_token_id": IMAGE_ID, "downsample_ratio": 0.5,
            "text_config": {**TEXT, "model_type": "qwen2", "hidden_size": 3584},
            "vision_config": {**published.INTERNVL["vision_config"], "num_hidden_layers": LAYERS},
        },
        (3, 4), 256, mark_nothing,
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
        (3, 4), 81, mark_tiles,
    ),
}  # fmt: skip


@torch.no_grad()
def build(shape: TileShape) -> tuple[Any, dict[str, Tensor]]:
    """The model of a shape, and a prompt with one image of noise."""
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[shape.model_type](**shape.config)
    model = build_random(config)
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


class Unmultiplied(TorchDispatchMode):
    """Puts random values in the place of what large products, convolutions and attention return."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run all other operations."""
        kwargs = kwargs or {}
        if operation not in PRODUCTS:
            return operation(*args, **kwargs)
        shapes = operation(*(arg.to("meta") if isinstance(arg, Tensor) else arg for arg in args), **kwargs)
        first = shapes if isinstance(shapes, Tensor) else shapes[0]
        if first.numel() < LARGE:
            return operation(*args, **kwargs)
        if first is shapes:
            return torch.rand_like(shapes, device="cpu")
        return tuple(torch.rand_like(shape, device="cpu") for shape in shapes)


@torch.no_grad()
def measure(name: str, model: Any, inputs: Any, encode: float, memory: int | None, *, computes: bool) -> dict[str, Any]:
    """The row of one arm of one shape."""
    settings = {"keep": KEEP, "encode": encode, "max_encoder_memory": memory}
    with nullcontext() if computes else Unmultiplied(), LiveMemory() as live:
        item = prune_inputs(model, inputs, **settings).report.items[0]
    encoded = sum(item.encoded) if item.encoded else SHAPES[name].count
    return {
        "encode": encode, "max_encoder_memory": memory, "tiles": [encoded, SHAPES[name].count],
        "visual_tokens": item.total, "peak_mib": round(live.peak / MIB, 1),
    }  # fmt: skip


def main() -> None:
    """Write the rows of all shapes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compute", action="store_true", help="compute the products too")
    computes = parser.parse_args().compute
    results: dict[str, list[dict[str, Any]]] = {}
    for name, shape in SHAPES.items():
        rows, (model, inputs) = results.setdefault(name, []), build(shape)
        for arm in ARMS:
            rows.append(measure(name, model, inputs, *arm, computes=computes))
            rows[-1]["of_all_tiles"] = round(rows[-1]["peak_mib"] / rows[0]["peak_mib"], 3)
            print(name, rows[-1], flush=True)
    OUT.write_text(json.dumps({"keep": KEEP, "torch": torch.__version__, "shapes": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
