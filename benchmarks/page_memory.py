"""Peak memory of the encoder and the selection for one page of 4,096 x 4,096 pixels in Qwen2.5-VL-3B's shape.

Without a bound, with `max_encoder_memory`, and with `encode`. The widths are the published ones, with two layers of the
tower (one with windows, one that attends to all) and two of the decoder: more layers need no more. The tensors that are
alive at once are counted, in float32, and large products are not computed: see tile_memory.py. Writes
results/page_memory.json.

    python benchmarks/page_memory.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from foveate.apps.bench.shapes import SHAPES, build_random, make_example
from foveate.apps.encoder import MIB
from foveate.models.live_memory import LiveMemory
from foveate.pipeline.prune import prune_inputs
from tile_memory import KEEP, Unmultiplied

OUT = Path(__file__).parent / "results" / "page_memory.json"
SIDE, LAYERS = 4096, 2
BOUNDS = (4096 * MIB, 2048 * MIB, 1024 * MIB)
ARMS: tuple[tuple[float, int | None], ...] = ((1.0, None), *((1.0, bound) for bound in BOUNDS), (0.25, None))


def build() -> tuple[Any, dict[str, Any]]:
    """The model, and a prompt with a page of noise."""
    shape = SHAPES["qwen2.5-vl-3b"]
    config = shape.make_config(LAYERS)
    config.vision_config.fullatt_block_indexes = [LAYERS - 1]
    model = build_random(config)
    with Unmultiplied():
        return model, make_example(model, shape, (SIDE, SIDE))


@torch.no_grad()
def measure(model: Any, inputs: Any, encode: float, memory: int | None) -> dict[str, Any]:
    """The row of one arm."""
    with Unmultiplied(), LiveMemory() as live:
        report = prune_inputs(model, inputs, keep=KEEP, encode=encode, max_encoder_memory=memory).report
    (item,) = report.items
    return {
        "encode": encode, "max_encoder_memory": memory, "encoded_share": round(item.encoded_share, 4),
        "visual_tokens": item.total, "kept": len(item.kept), "peak_mib": round(live.peak / MIB, 1),
        "notes": list(report.notes),
    }  # fmt: skip


def main() -> None:
    """Write the rows."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    model, inputs = build()
    rows = []
    for arm in ARMS:
        rows.append(measure(model, inputs, *arm))
        print(rows[-1], flush=True)
    record = {"side": SIDE, "keep": KEEP, "torch": torch.__version__, "arms": rows}
    OUT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
