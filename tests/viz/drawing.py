"""What the tests of overlays share: reports, drawings without a legend, and what can be read off them."""

import numpy as np
from PIL import Image

from foveate import draw
from foveate.models.visual_input import tile_frames
from viz.golden.write import make_item, make_report

WHITE = Image.new("RGB", (90, 60), "white")
GRID = (1, 2, 3)
RISING = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def pixels(image):
    return np.asarray(image).astype(int)


def bright(out, rows, columns):
    """Which cells of an overlay of a white image are bright in their middle."""
    middles = np.array([[np.median(b) for b in np.array_split(r, columns, 1)] for r in np.array_split(out, rows, 0)])
    return set(np.flatnonzero(middles.ravel() > 200).tolist())


def plain(kept, grid=GRID):
    return make_report(make_item(list(kept), tile_frames(grid)))


def explained(kept, core, relevance=RISING, grid=GRID):
    return make_report(make_item(kept, tile_frames(grid), relevance=relevance, core=core))


def draw_bare(image, report, **more):
    return draw(image, report, legend=False, **more)


def ramp(width, height):
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return Image.fromarray(np.round(np.stack([x, y, 0 * x + 1], -1) * 255).astype(np.uint8))
