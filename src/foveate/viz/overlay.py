"""`draw`: panels side by side or in a contact sheet, above a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image

from foveate.errors import InputError
from foveate.method.checks import is_int
from foveate.pipeline.prune import Report
from foveate.viz.legend import PAPER, entries, strip
from foveate.viz.paint import Panel, paint
from foveate.viz.panels import panels_of

LONGER_SIDE = 512  # pixels of a panel, at least
SHEET, SHEET_SIDE = 4, 256  # beyond so many pictures a panel is so large
CELL, LARGEST = 14, 1024  # a panel grows until its cells are so wide, or it is so large
GAP = 8


def draw(
    image: Image.Image | Sequence[Image.Image], report: Report, *, processor: Any = None,
    item: int | slice | None = None, legend: bool = True,
) -> Image.Image:  # fmt: skip
    """Show which visual tokens a report kept, over the picture that they are of.

    Kept tokens are bright over the darkened picture. Where the report was made with `explain=True`, those kept for
    their relevance (core) have a full frame in amber and the others (complement) the corners of one in blue, and the
    dropped ones are tinted red, the lighter the more relevant. Tiles lie where they were cut out, beside the overview
    of the whole picture; the frames of a clip stand in reading order.

    `image` is one picture, or a sequence: one for each picture of the report, or the frames of its clip, at least as
    many as it has there. `item` names the report's pictures and clips that are meant, as an index or a slice (all tiles
    of one picture, where each counts as a picture). `processor` is the model's; where it is given and cuts off the ends
    of a picture, or pads it, only what reaches the model is drawn. `legend` adds a strip that says what the marks mean,
    with counts.

    Returns a new RGB picture, its longer side at least 512 pixels; `image` is not changed. Raises `InputError` where
    the report holds no picture, where pictures and report do not match, and where tokens lie in no raster.
    """
    pictures = [image] if isinstance(image, Image.Image) else list(image)
    if not pictures or not all(isinstance(picture, Image.Image) for picture in pictures):
        raise InputError("image holds no picture: give one of Pillow's, or a sequence of them.")
    if not all(min(picture.size) for picture in pictures):
        raise InputError("image has no pixels: give a picture of at least one by one.")
    if not (item is None or isinstance(item, slice) or is_int(item)):
        raise InputError(f"item={item!r} names nothing: give an index, or a slice.")
    groups = panels_of(pictures, report, processor, item)
    out = _sheet([_side_by_side(group, len(groups)) for group in groups])
    if not legend:
        return out
    below = strip(entries([panel for group in groups for panel in group]), out.width)
    whole = Image.new("RGB", (out.width, out.height + below.height), PAPER)
    whole.paste(out, (0, 0))
    whole.paste(below, (0, out.height))
    return whole


def _side_by_side(panels: Sequence[Panel], groups: int) -> Image.Image:
    """The panels of one picture, all of one size."""
    width, height = panels[0].picture.size
    longer = max(width, height)
    least = LONGER_SIDE if groups <= SHEET or longer > 2 * min(width, height) else SHEET_SIDE
    widest = max(CELL * longer * max(panel.columns / width, panel.rows / height) for panel in panels)
    side = max(least, min(widest, LARGEST), longer if groups == 1 else 0)
    size = max(1, round(width * side / longer)), max(1, round(height * side / longer))
    return _sheet([paint(panel, size) for panel in panels], len(panels))


def _sheet(images: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """The images in rows from left to right; with no number of columns about as wide as high."""
    if len(images) == 1:
        return images[0]
    width, height = (max(image.size[axis] for image in images) + GAP for axis in (0, 1))
    if columns is None:
        columns = min(range(1, len(images) + 1), key=lambda c: abs(math.log(c * width / _rows(images, c) / height)))
    out = Image.new("RGB", (columns * width - GAP, _rows(images, columns) * height - GAP), PAPER)
    for number, image in enumerate(images):
        out.paste(image, (number % columns * width, number // columns * height))
    return out


def _rows(images: Sequence[Image.Image], columns: int) -> int:
    return -(-len(images) // columns)
