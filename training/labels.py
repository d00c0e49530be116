"""Labels of the patches of a drawn image: the targets of the vision encoder's pre-training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from foveate.world.drawing import fill_form, locate_glyphs
from foveate.world.scenes import CELLS, COLORS, FORMS, GLYPHS, MAX_GLYPHS, POPULARITY, Scene

COVERED = 0.2  # a patch belongs to an object that covers at least this share of it
READABLE = 0.3  # a patch belongs to a glyph whose box covers at least this share of it
NOTHING = 0  # class 0 of every attribute
CLASSES = {"form": len(FORMS) + 1, "color": len(COLORS) + 1, "glyph": len(GLYPHS) + 1, "order": MAX_GLYPHS + 1}
IMAGE_LABELS = len(FORMS) + len(COLORS) + 10
"""Number of labels of the whole image: which forms and colours it holds, and how many objects."""
PLACE = 6  # values


@dataclass(frozen=True)
class PatchLabels:
    """Labels of all patches in raster order.

    `form`, `color`, `glyph` and `order` (the glyph's number in its word) are classes (rows * columns,); 0 is nothing.
    `place` (rows * columns, PLACE), in cells, is the centre of the patch's object, the way from the patch to it, and
    the object's half extents. `image` (IMAGE_LABELS,) is 0 or 1.
    """

    form: np.ndarray
    color: np.ndarray
    glyph: np.ndarray
    order: np.ndarray
    place: np.ndarray
    image: np.ndarray


def make_patch_labels(scene: Scene, rows: int, columns: int, patch: int) -> PatchLabels:
    """Label `rows` x `columns` patches of `patch` x `patch` pixels that cover the scene."""
    canvas = Image.new("L", (columns * patch, rows * patch), 0)
    pen = ImageDraw.Draw(canvas)
    for number, thing in enumerate(scene.things):
        fill_form(pen, thing, canvas.size, number + 1)
    pixels = np.asarray(canvas).reshape(rows, patch, columns, patch).transpose(0, 2, 1, 3).reshape(rows * columns, -1)
    covered = np.stack([(pixels == i).mean(1) for i in range(len(scene.things) + 1)])  # (things + 1, patches)
    covered[0] = 0
    owner = np.where(covered.max(0) >= COVERED, covered.argmax(0), NOTHING)
    glyph, order, written_on = label_glyphs([(t.text, locate_glyphs(t)) for t in scene.things], rows, columns)
    owner = np.where(written_on > 0, written_on, owner)
    form = np.array([NOTHING, *(FORMS.index(t.form) + 1 for t in scene.things)])
    color = np.array([NOTHING, *(tuple(POPULARITY).index(t.color) + 1 for t in scene.things)])
    row, column = np.divmod(np.arange(rows * columns), columns)
    here = np.stack([(column + 0.5) / columns, (row + 0.5) / rows], axis=1)
    extent = np.array([(0.0,) * 4, *((t.x, t.y, t.rx, t.ry) for t in scene.things)])[owner]
    place = CELLS * np.concatenate([extent[:, :2], extent[:, :2] - here, extent[:, 2:]], axis=1)
    place *= (owner > 0)[:, None]
    return PatchLabels(form[owner], color[owner], glyph, order, place.astype(np.float32), _label_image(scene))


Box = tuple[float, float, float, float]


def label_glyphs(
    texts: Sequence[tuple[str, Sequence[Box]]], rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label patches by the glyph that covers the largest share of each.

    Args:
        texts: Every text with (left, top, right, bottom) of its glyphs, as shares of the image's sides.
        rows: Of patches.
        columns: Of patches.

    Returns:
        Each patch's glyph, the glyph's number in its text, at most `MAX_GLYPHS`, and the number of the text. A glyph
        that is not among `GLYPHS` is none.
    """
    best = np.full((rows, columns), READABLE)
    labels = np.zeros((3, rows, columns), dtype=np.int64)
    left, top = np.arange(columns) / columns, np.arange(rows) / rows
    for number, (text, boxes) in enumerate(texts, start=1):
        for place, (glyph, (x0, y0, x1, y1)) in enumerate(zip(text.lower(), boxes, strict=False), start=1):
            if glyph not in GLYPHS:
                continue
            wide = (np.minimum(left + 1 / columns, x1) - np.maximum(left, x0)).clip(0) * columns
            high = (np.minimum(top + 1 / rows, y1) - np.maximum(top, y0)).clip(0) * rows
            share = high[:, None] * wide
            more = share > best
            best[more] = share[more]
            labels[:, more] = np.array([[GLYPHS.index(glyph) + 1], [min(place, MAX_GLYPHS)], [number]])
    flat = labels.reshape(3, -1)
    return flat[0], flat[1], flat[2]


def _label_image(scene: Scene) -> np.ndarray:
    forms, colors = {t.form for t in scene.things}, {t.color for t in scene.things}
    count = [float(len(scene.things) == i) for i in range(10)]
    return np.array([float(f in forms) for f in FORMS] + [float(c in colors) for c in POPULARITY] + count, np.float32)
