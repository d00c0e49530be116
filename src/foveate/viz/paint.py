"""One panel: an image, and the state of the token in each cell of the raster over it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from PIL import Image, ImageDraw, ImageEnhance

# A light veil over what was dropped: a white page turns grey, a dark photograph light, and both stay readable.
VEIL, VEIL_SHARE, PALE = (214, 217, 222), 0.6, 0.3  # its colour and share, and the saturation under it
# Core and complement also differ in shape (a full frame, four corners), for grey prints and colour-blind readers.
AMBER, SKY = (255, 176, 0), (86, 180, 233)
SHADE = (0, 0, 0)  # a dark line inside the coloured one keeps it visible on a light cell
HEAT, HEAT_SHARE = (0, 84, 104), 0.85  # one hue, darker than any veiled cell: the more of it, the darker the cell
STRIPE, STRIPES = (120, 124, 130), 12  # what was not encoded: lines over an empty veil, pixels between them
SMALL, TINY = 8, 3  # pixels: smaller cells have no room for corners, or for any frame

Box = tuple[int, int, int, int]
Color = tuple[int, int, int]


class TokenState(Enum):
    """Whether and why a token was kept."""

    DROPPED = "dropped"
    KEPT = "kept"  # for an unknown reason
    CORE = "core"
    COMPLEMENT = "complement"
    LOOK = "look"  # seen by the first look
    ABSENT = "absent"  # of a tile that was not encoded


# Thickness of a frame: (side of the cell) ** 0.75 / thinness.
THINNESS = {TokenState.CORE: 3.3, TokenState.COMPLEMENT: 4.5, TokenState.KEPT: 9.0, TokenState.LOOK: 9.0}


@dataclass(frozen=True, eq=False)
class Panel:
    """An image under `rows` x `columns` cells; `states` and `heat` (0 to 1, or None) go row by row.

    Without `states` only the map is meant.
    """

    image: Image.Image
    rows: int
    columns: int
    states: Sequence[TokenState]
    heat: Sequence[float | None]

    def cell_box(self, index: int, size: tuple[int, int]) -> Box:
        """The pixels of one token. Neighbours share a border; together the cells fill the image."""
        row, column = divmod(index, self.columns)
        left, right = (round(n * size[0] / self.columns) for n in (column, column + 1))
        top, bottom = (round(n * size[1] / self.rows) for n in (row, row + 1))
        return left, top, right, bottom


def paint_panel(panel: Panel, size: tuple[int, int]) -> Image.Image:
    """The panel in RGB, (width, height) pixels large: kept cells as they are and framed, dropped ones veiled.

    Nothing shows through the veil of cells that were not encoded; it has diagonal lines.
    """
    clear = panel.image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    out = veil(clear)
    out.paste(hatch(size), None, _mask_absent(panel, size))
    pen = ImageDraw.Draw(out)
    for index, state in enumerate(panel.states):
        box = panel.cell_box(index, size)
        if state not in (TokenState.DROPPED, TokenState.ABSENT) and box[2] > box[0] and box[3] > box[1]:
            out.paste(clear.crop(box), box)
            draw_frame(pen, box, state)
    return out


def paint_map(panel: Panel, size: tuple[int, int]) -> Image.Image:
    """The heat of all cells over the veiled image, in RGB, (width, height) pixels large."""
    out = veil(panel.image.convert("L").convert("RGB").resize(size, Image.Resampling.LANCZOS))
    share = Image.new("L", size)
    pen = ImageDraw.Draw(share)
    for index, heat in enumerate(panel.heat):
        left, top, right, bottom = panel.cell_box(index, size)
        if heat and right > left and bottom > top:
            pen.rectangle((left, top, right - 1, bottom - 1), fill=round(255 * HEAT_SHARE * heat))
    out.paste(HEAT, (0, 0, *size), share)
    return out


def veil(image: Image.Image) -> Image.Image:
    """The image paler, under the veil."""
    return Image.blend(ImageEnhance.Color(image).enhance(PALE), Image.new("RGB", image.size, VEIL), VEIL_SHARE)


def _mask_absent(panel: Panel, size: tuple[int, int]) -> Image.Image:
    """White where cells were not encoded."""
    mask = Image.new("L", size)
    pen = ImageDraw.Draw(mask)
    for index, state in enumerate(panel.states):
        left, top, right, bottom = panel.cell_box(index, size)
        if state is TokenState.ABSENT and right > left and bottom > top:
            pen.rectangle((left, top, right - 1, bottom - 1), fill=255)
    return mask


def hatch(size: tuple[int, int]) -> Image.Image:
    """The veil alone, under diagonal lines."""
    out = Image.new("RGB", size, VEIL)
    pen = ImageDraw.Draw(out)
    for start in range(-size[1], size[0], STRIPES):
        pen.line([(start, size[1]), (start + size[1], 0)], fill=STRIPE)
    return out


def draw_frame(pen: ImageDraw.ImageDraw, box: Box, state: TokenState) -> None:
    """Mark a kept cell: core by a thick full frame, complement by its corners, others by a thin full frame."""
    left, top, right, bottom = box[0], box[1], box[2] - 1, box[3] - 1
    side = min(right - left, bottom - top) + 1
    if side < TINY:
        return
    color = SKY if state is TokenState.COMPLEMENT else AMBER
    if side < SMALL:
        if state is TokenState.COMPLEMENT:  # there is room for one corner
            pen.line([(left, top + side // 2), (left, top), (left + side // 2, top)], fill=color)
        else:
            pen.rectangle((left, top, right, bottom), outline=color)
        return
    thick = max(1, round(side**0.75 / THINNESS[state]))
    inner = (left + thick, top + thick, right - thick, bottom - thick)
    if state is TokenState.COMPLEMENT:
        arm = max(3, round(side * 0.3))
        _draw_corners(pen, inner, arm - thick, 1, SHADE)
        _draw_corners(pen, (left, top, right, bottom), arm, thick, color)
        return
    pen.rectangle(inner, outline=SHADE)
    pen.rectangle((left, top, right, bottom), outline=color, width=thick)


def _draw_corners(pen: ImageDraw.ImageDraw, box: Box, arm: int, thick: int, color: Color) -> None:
    """Two arms at each corner of a box whose right and bottom pixels belong to it."""
    left, top, right, bottom = box
    for x, toward_x in ((left, 1), (right, -1)):
        for y, toward_y in ((top, 1), (bottom, -1)):
            for width, height in ((arm, thick), (thick, arm)):
                far_x, far_y = x + toward_x * (width - 1), y + toward_y * (height - 1)
                pen.rectangle((min(x, far_x), min(y, far_y), max(x, far_x), max(y, far_y)), fill=color)
