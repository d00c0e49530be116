"""Write docs/glance.png: what the first look sees, where the model looked, and what stays of one crowded image.

python benchmarks/glance_figure.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

import foveate
from foveate.method.glance import Glance
from foveate.runtime.conversation import make_inputs
from foveate.runtime.load import load, quiet
from foveate.world.drawing import draw_scene
from foveate.world.suite import sample_cases

OUT = Path(__file__).parents[1] / "docs" / "glance.png"
CASE, KEEP = 18, 0.056  # a question of the development split, and the share of tokens that stays


def show(axes: Axes, title: str, image: Image.Image, grid: tuple[int, int, int], kept: Tensor) -> None:
    """Draw the image with its dropped tokens darkened."""
    mask = torch.zeros(grid[1] * grid[2])
    mask[kept] = 1
    shade = torch.zeros(grid[1], grid[2], 4)
    shade[..., 3] = 0.82 * (1 - mask.view(grid[1:]))
    extent = (0, image.width, image.height, 0)
    axes.imshow(image, extent=extent)
    axes.imshow(shade.numpy(), extent=extent, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def main() -> None:
    """Draw the four steps side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    with quiet():
        loaded = load("bundled-qwen")
    case = sample_cases("dev", "crowd", CASE + 1)[CASE]
    image = draw_scene(case.scene)
    inputs, glance = make_inputs(loaded, [image], [case.question.text]), Glance()
    with torch.no_grad():
        look = foveate.prune_inputs(loaded.model, inputs, keep=KEEP, method=glance, explain=True).report.items[0]
        default = foveate.prune_inputs(loaded.model, inputs, keep=KEEP).report.items[0]
    assert look.grid is not None
    assert look.relevance is not None
    assert look.look is not None
    figure, axes = pyplot.subplots(1, 4, figsize=(11, 3.1), layout="constrained")
    figure.suptitle(f'"{case.question.text}"  ({case.question.answer})', fontsize=11)
    show(axes[0], f"1. a look at averages around {len(look.look)} tokens", image, look.grid, look.look)
    extent = (0, image.width, image.height, 0)
    axes[1].imshow(image.convert("L"), cmap="gray", extent=extent)
    axes[1].imshow(look.relevance.view(look.grid[1:]), cmap="inferno", alpha=0.7, extent=extent)
    axes[1].set_title("2. where the model looked", fontsize=9)
    axes[1].set_axis_off()
    show(axes[2], f"3. what stays: {len(look.kept)} tokens", image, look.grid, look.kept)
    show(axes[3], f"for comparison, foveate: {len(default.kept)} tokens", image, look.grid, default.kept)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
