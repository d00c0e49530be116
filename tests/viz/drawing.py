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
    return set(np.flatnonzero(middles.ravel() > 245).tolist())


def plain(kept, grid=GRID):
    return make_report(make_item(list(kept), tile_frames(grid)))


def explained(kept, core, relevance=RISING, grid=GRID):
    return make_report(make_item(kept, tile_frames(grid), relevance=relevance, core=core))


def draw_bare(image, report, **more):
    return draw(image, report, legend=False, original=False, **more)


def halves(out):
    """The two panels of a sheet, which stand side by side or one above the other."""
    width, height = (out.shape[1] - 8) // 2, (out.shape[0] - 8) // 2
    if (out[:, width : width + 8] == 255).all():
        return out[:, :width], out[:, width + 8 :]
    assert (out[height : height + 8] == 255).all()
    return out[:height], out[height + 8 :]


def ramp(width, height):
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return Image.fromarray(np.round(np.stack([x, y, 0 * x + 1], -1) * 255).astype(np.uint8))
