"""One panel: a picture, and what became of each cell of the raster that lies over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from PIL import Image, ImageDraw, ImageEnhance

DARK, PALE = 0.45, 0.15  # brightness and saturation left where tokens were dropped
# Told apart by shape (a full frame, four corners), so colours may be lost to a grey printer or to colour-blindness.
AMBER, SKY = (255, 176, 0), (86, 180, 233)
SHADE = (0, 0, 0)  # a dark line inside the coloured one keeps it visible on a light cell
# One hue, lighter than any dark cell and darker than a kept light one: the more of it, the lighter the cell.
HEAT, HEAT_SHARE = (232, 92, 84), 0.65
SMALL, TINY = 8, 3  # pixels: cells too small for corners, and for any frame

Box = tuple[int, int, int, int]
Color = tuple[int, int, int]


class Fate(Enum):
    """What became of a token."""

    DROPPED = "dropped"
    KEPT = "kept"  # it is not known why
    CORE = "core"
    COMPLEMENT = "complement"


# How often a frame's width goes into that of its cell, which it grows more slowly than.
THINNESS = {Fate.CORE: 3.3, Fate.COMPLEMENT: 4.5, Fate.KEPT: 9.0}


@dataclass(frozen=True, eq=False)
class Panel:
    """A picture under `rows` x `columns` cells; `fates` and `heat` (from 0 to 1, None for none) go row by row."""

    picture: Image.Image
    rows: int
    columns: int
    fates: Sequence[Fate]
    heat: Sequence[float | None]

    def cell(self, index: int, size: tuple[int, int]) -> Box:
        """The pixels of one token; neighbours share a border, and together the cells fill the picture."""
        row, column = divmod(index, self.columns)
        width, height = size
        return (
            round(column * width / self.columns), round(row * height / self.rows),
            round((column + 1) * width / self.columns), round((row + 1) * height / self.rows),
        )  # fmt: skip


def paint(panel: Panel, size: tuple[int, int]) -> Image.Image:
    """The panel in RGB, (width, height) pixels large: dropped cells dark and pale, tinted by heat; kept ones framed."""
    bright = panel.picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    out = ImageEnhance.Brightness(ImageEnhance.Color(bright).enhance(PALE)).enhance(DARK)
    out.paste(*_tint(panel, size))
    pen = ImageDraw.Draw(out)
    for index, fate in enumerate(panel.fates):
        box = panel.cell(index, size)
        if fate is not Fate.DROPPED and box[2] > box[0] and box[3] > box[1]:
            out.paste(bright.crop(box), box)
            frame(pen, box, fate)
    return out


def _tint(panel: Panel, size: tuple[int, int]) -> tuple[Color, Box, Image.Image]:
    """The colour of heat, where it may lie, and how much of it there is at each pixel."""
    share = Image.new("L", size)
    pen = ImageDraw.Draw(share)
    for index, heat in enumerate(panel.heat):
        left, top, right, bottom = panel.cell(index, size)
        if heat and right > left and bottom > top:
            pen.rectangle((left, top, right - 1, bottom - 1), fill=round(255 * HEAT_SHARE * heat))
    return HEAT, (0, 0, *size), share


def frame(pen: ImageDraw.ImageDraw, box: Box, fate: Fate) -> None:
    """Mark a kept cell: core with a thick full frame, complement with its corners, in between where it is unknown."""
    left, top, right, bottom = box[0], box[1], box[2] - 1, box[3] - 1
    side = min(right - left, bottom - top) + 1
    if side < TINY:
        return
    color = SKY if fate is Fate.COMPLEMENT else AMBER
    if side < SMALL:
        if fate is Fate.COMPLEMENT:  # one corner is all that there is room for
            pen.line([(left, top + side // 2), (left, top), (left + side // 2, top)], fill=color)
        else:
            pen.rectangle((left, top, right, bottom), outline=color)
        return
    thick = max(1, round(side**0.75 / THINNESS[fate]))
    inner = (left + thick, top + thick, right - thick, bottom - thick)
    if fate is Fate.COMPLEMENT:
        arm = max(3, round(side * 0.3))
        _corners(pen, inner, arm - thick, 1, SHADE)
        _corners(pen, (left, top, right, bottom), arm, thick, color)
        return
    pen.rectangle(inner, outline=SHADE)
    pen.rectangle((left, top, right, bottom), outline=color, width=thick)


def _corners(pen: ImageDraw.ImageDraw, box: Box, arm: int, thick: int, color: Color) -> None:
    """Two arms at each corner of a box whose right and bottom pixels belong to it."""
    left, top, right, bottom = box
    for x, toward_x in ((left, 1), (right, -1)):
        for y, toward_y in ((top, 1), (bottom, -1)):
            for width, height in ((arm, thick), (thick, arm)):
                far_x, far_y = x + toward_x * (width - 1), y + toward_y * (height - 1)
                pen.rectangle((min(x, far_x), min(y, far_y), max(x, far_x), max(y, far_y)), fill=color)
