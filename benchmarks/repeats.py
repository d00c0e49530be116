"""How similar are the tokens of one place in two frames? `foveate.runtime.stream.REPEATS` was set by this.

The second frame is the first with camera noise, or after JPEG, or with one object moved by a tenth of the image. The
result is, for every threshold, which share of the tokens counts as repeats: of those that show the moved object before
or after, and of the others. Writes results/repeats.json.
"""

import argparse
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from foveate.method.tokens import unit_rows
from foveate.runtime.load import load
from foveate.world.drawing import draw_scene
from foveate.world.scenes import Scene, sample_scene

SCENES, THRESHOLDS = 60, (0.8, 0.9, 0.95, 0.98, 0.99)
STEP = 0.1  # how far an object moves, as a share of the image's width


def add_noise(image: Image.Image, sigma: float) -> Image.Image:
    """Add Gaussian noise of `sigma` grey levels."""
    noise = np.random.default_rng(0).normal(0, sigma, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype("uint8"))


def compress(image: Image.Image) -> Image.Image:
    """Save as JPEG of quality 75 and read it again."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)
    return Image.open(buffer).convert("RGB")


def move_object(scene: Scene) -> Scene:
    """Move the first object one step to the side."""
    first, *rest = scene.things
    step = STEP if first.x < 0.5 else -STEP
    return replace(scene, things=(replace(first, x=first.x + step), *rest))


def compare_frames(loaded: object, frames: list[Image.Image]) -> tuple[torch.Tensor, tuple[int, int]]:
    """Return (n,) cosines between the tokens of two frames, and their (rows, columns)."""
    inputs = loaded.processor.image_processor(images=frames, return_tensors="pt")
    with torch.no_grad():
        one, other = loaded.model.base_model.get_image_features(**inputs, return_dict=True).pooler_output
    _, height, width = inputs["image_grid_thw"][0].tolist()
    return (unit_rows(one) * unit_rows(other)).sum(-1), (height // 2, width // 2)


def find_changes(before: Image.Image, after: Image.Image, grid: tuple[int, int]) -> torch.Tensor:
    """Return (n,) bool: a pixel in the token's cell changed by more than 24 grey levels."""
    change = np.abs(np.asarray(before).astype(int) - np.asarray(after).astype(int)).max(-1) > 24
    rows, columns = (np.arange(size) * cells // size for size, cells in zip(change.shape, grid, strict=True))
    cells = np.zeros(grid, dtype=bool)
    np.logical_or.at(cells, (rows[:, None], columns[None, :]), change)
    return torch.from_numpy(cells).flatten()


def main() -> None:
    """Measure, print and write the results."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    loaded = load("bundled-qwen")
    changes: dict[str, Callable[[Image.Image], Image.Image]] = {
        "noise of 2 levels": lambda image: add_noise(image, 2),
        "noise of 5 levels": lambda image: add_noise(image, 5),
        "JPEG": compress,
    }
    shares: dict[str, dict[str, dict[str, float]]] = {}
    for name in (*changes, "an object moves"):
        still, changed = [], []
        for index in range(SCENES):
            scene = sample_scene(3, index)
            before = draw_scene(scene)
            after = changes[name](before) if name in changes else draw_scene(move_object(scene))
            similarity, grid = compare_frames(loaded, [before, after])
            moving = (
                find_changes(before, after, grid)
                if name not in changes
                else torch.zeros(len(similarity), dtype=torch.bool)
            )
            still.append(similarity[~moving])
            changed.append(similarity[moving])
        shares[name] = {
            "unchanged": {str(t): float((torch.cat(still) > t).float().mean()) for t in THRESHOLDS},
            "changed": {str(t): float((torch.cat(changed) > t).float().mean()) for t in THRESHOLDS},
        }
        if name in changes:
            del shares[name]["changed"]
        print(name, json.dumps(shares[name]))
    path = Path(__file__).parent / "results" / "repeats.json"
    path.write_text(json.dumps({"scenes": SCENES, "share of tokens above": shares}, indent=1) + "\n")


if __name__ == "__main__":
    main()
