"""Write docs/glance.png: what the first look sees, where the model looked, and what stays of one crowded image.

python benchmarks/glance_figure.py
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot
from PIL import Image

import foveate
from foveate.pipeline.report import Report
from foveate.runtime.conversation import make_inputs
from foveate.runtime.load import load, quiet
from foveate.runtime.loaded import LoadedModel
from foveate.viz.panels import Step
from foveate.world.drawing import draw_scene
from foveate.world.suite import sample_cases

OUT = Path(__file__).parents[1] / "docs" / "glance.png"
CASE, KEEP = 18, 0.056  # a question of the development split, and the share of tokens that stays


def prune(loaded: LoadedModel, inputs: Mapping[str, Any], method: str, *, explain: bool = False) -> Report:
    """What the method keeps."""
    with torch.no_grad():
        return foveate.prune_inputs(loaded.model, inputs, keep=KEEP, method=method, explain=explain).report


def main() -> None:
    """Draw the four steps side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    with quiet():
        loaded = load("bundled-qwen")
    case = sample_cases("dev", "crowd", CASE + 1)[CASE]
    image = draw_scene(case.scene)
    inputs = make_inputs(loaded, [image], [case.question.text])
    # Without explanations all marks are of one kind, so that they need no legend.
    plain, default = prune(loaded, inputs, "glance"), prune(loaded, inputs, "foveate")
    explained = prune(loaded, inputs, "glance", explain=True)
    look = plain.items[0].look
    assert look is not None
    tokens_of_look = replace(plain, items=(replace(plain.items[0], attention=None),))  # without its map
    steps: list[tuple[str, Report, Step]] = [
        (f"1. a look at averages around {len(look)} tokens", tokens_of_look, "look"),
        ("2. where the model looked: darker for more", explained, "map"),
        (f"3. what stays: {plain.kept_count} tokens", plain, "kept"),
        (f"for comparison, foveate: {default.kept_count} tokens", default, "kept"),
    ]
    figure, axes = pyplot.subplots(1, 4, figsize=(11, 2.9), layout="constrained")
    figure.suptitle(f'"{case.question.text}"  ({case.question.answer})', fontsize=11)
    for panel, (title, report, step) in zip(axes, steps, strict=True):
        drawn: Image.Image = foveate.draw(
            image, report, processor=loaded.processor, step=step, legend=False, original=False
        )
        panel.imshow(drawn, interpolation="antialiased")
        panel.set_title(title, fontsize=8)
        panel.set_axis_off()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
