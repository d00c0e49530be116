"""What each patch of a drawn scene shows: the targets of the vision encoder's pre-training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from foveate.world.scenes import COLORS, LETTERS, SHAPES, SIDE, Scene, outline

COVERED = 0.2  # a patch belongs to an object that covers at least this share of it
NOTHING = 0  # class 0 of every attribute


@dataclass(frozen=True)
class PatchLabels:
    """Integer classes (grid * grid,) in raster order, 0 = nothing; `place` (grid * grid, 2) is the object's centre."""

    shape: np.ndarray
    color: np.ndarray
    letter: np.ndarray
    middle: np.ndarray
    place: np.ndarray


def patch_labels(scene: Scene, grid: int) -> PatchLabels:
    """Label the patches of a `grid` x `grid` raster over the scene."""
    canvas = Image.new("L", (SIDE, SIDE), 0)
    pen = ImageDraw.Draw(canvas)
    for number, thing in enumerate(scene.things):
        outline(pen, thing, SIDE, number + 1)
    size = SIDE // grid
    patches = np.asarray(canvas).reshape(grid, size, grid, size).transpose(0, 2, 1, 3).reshape(grid * grid, size * size)
    covered = np.stack([(patches == i).mean(1) for i in range(len(scene.things) + 1)])  # (objects + 1, patches)
    owner = np.where(covered[1:].max(0) >= COVERED, covered[1:].argmax(0) + 1, NOTHING)
    shape = [NOTHING, *(SHAPES.index(t.shape) + 1 for t in scene.things)]
    color = [NOTHING, *(tuple(COLORS).index(t.color) + 1 for t in scene.things)]
    letter = [NOTHING, *(LETTERS.index(t.letter) + 1 if t.letter else NOTHING for t in scene.things)]
    place = np.array([(0.0, 0.0), *((t.x, t.y) for t in scene.things)], dtype=np.float32)
    middle = np.zeros(grid * grid, dtype=np.int64)
    for thing in scene.things:
        middle[int(thing.y * grid) * grid + int(thing.x * grid)] = 1
    return PatchLabels(np.array(shape)[owner], np.array(color)[owner], np.array(letter)[owner], middle, place[owner])
