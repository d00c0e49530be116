"""The price of the first look of `glance`: its floating-point operations, as a share of the unpruned model's prefill.

torch counts them on language models of published shapes without weights: all layers on the whole prompt, and the first
ones on the tokens of the look. The vision encoder, which both need, is left out. Writes results/glance_cost.json.

    python benchmarks/glance_cost.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from foveate.apps.bench.shapes import SHAPES, build, make_example
from foveate.method.glance import Glance
from foveate.models import family_of
from foveate.models.attention_rows import find_attentions

OUT = Path(__file__).parent / "results" / "glance_cost.json"


def count(call: Any) -> int:
    """The floating-point operations of a call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return int(counter.get_total_flops())


def count_layers(language: Any, layers: int, tokens: int) -> int:
    """Those of the language model's first layers on so many tokens."""
    whole, language.layers = language.layers, language.layers[:layers]
    embeds = torch.empty(1, tokens, language.config.hidden_size, device="meta")
    mask = torch.empty(1, 1, tokens, tokens, device="meta")  # else transformers reads values that are not there
    positions = torch.empty(1, tokens, dtype=torch.long, device="meta")
    try:
        return count(
            lambda: language(inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False)
        )
    finally:
        language.layers = whole


def measure(name: str) -> dict[str, Any]:
    """The row of one model."""
    from transformers import AutoModelForImageTextToText

    shape, glance = SHAPES[name], Glance()
    small, _ = build(shape, layers=1)  # to count the tokens of an image
    prompt = make_example(small, shape, shape.size)
    n, length = int(family_of(small).placeholders(small.config, prompt).sum()), prompt["input_ids"].shape[1]
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(shape.make_config(shape.count_layers()[0]))
    language, layers = family_of(model).decoder(model), find_attentions(model)
    depth = min(layers, key=lambda layer: abs(layer.layer_idx - glance.depth * len(layers))).layer_idx
    seen = round(glance.share * n) + length - n
    attention = layers[depth]
    reading = 2 * seen * sum(part.weight.numel() for part in (attention.q_proj, attention.k_proj))
    share = (count_layers(language, depth, seen) + reading) / count_layers(language, len(layers), length)
    return {
        "visual_tokens": n, "other_tokens": length - n, "layers": len(layers), "layers_of_the_look": depth,
        "share_of_prefill": round(share, 4),
    }  # fmt: skip


def main() -> None:
    """Write the row of every published shape."""
    rows = {name: measure(name) for name in SHAPES}
    OUT.write_text(json.dumps({"share": Glance().share, "depth": Glance().depth, "models": rows}, indent=1) + "\n")
    for name, row in rows.items():
        print(f"{name}: {row['share_of_prefill']:.1%}")


if __name__ == "__main__":
    main()
