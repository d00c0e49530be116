"""How a report looks in a notebook: a picture of the kept cells, three numbers and the notes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

from foveate.models.visual_input import Tile, VisualInput

if TYPE_CHECKING:  # a program that shows no report needs no Pillow
    from PIL import Image

SIDE, GAP, WIDTH = 8, 12, 720  # pixels of a cell, between rasters, and of a row of them
MOST = 32  # rasters that are shown
PAPER, DROPPED, KEPT, CORE, ABSENT = (255, 255, 255), (222, 225, 230), (0, 84, 104), (255, 176, 0), (248, 248, 249)


def draw_cells(items: Sequence[VisualInput]) -> Image.Image | None:
    """The cells of every image, tile and frame, kept ones dark and the core amber; None where none has a raster.

    The images themselves are not known to a report: `foveate.draw` shows the kept tokens over them.
    """
    from PIL import Image

    rasters = [_draw_raster(item, tile) for item in items if item.modality != "audio" for tile in item.tiles][:MOST]
    if not rasters:
        return None
    places, x, y, height = [], 0, 0, 0
    for raster in rasters:
        if x and x + raster.width > WIDTH:
            x, y, height = 0, y + height + GAP, 0
        places.append((x, y))
        x, height = x + raster.width + GAP, max(height, raster.height)
    width = max(left + raster.width for (left, _), raster in zip(places, rasters, strict=True))
    out = Image.new("RGB", (width, y + height), PAPER)
    for place, raster in zip(places, rasters, strict=True):
        out.paste(raster, place)
    return out


def write_png(items: Sequence[VisualInput]) -> bytes | None:
    """`draw_cells` as a PNG file."""
    picture = draw_cells(items)
    if picture is None:
        return None
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def write_html(title: str, numbers: Sequence[tuple[str, str]], notes: Sequence[str], png: bytes | None) -> str:
    """A title, the picture, numbers with their names, and notes, as a piece of HTML."""
    picture = "" if png is None else f'<img alt="the kept cells" src="data:image/png;base64,{_encode(png)}"/>'
    cells = "".join(f"<td><b>{escape(value)}</b><br/>{escape(name)}</td>" for value, name in numbers)
    lines = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f"<div><p><b>{escape(title)}</b></p>{picture}<table><tr>{cells}</tr></table>{lines}</div>"


def _encode(png: bytes) -> str:
    return base64.b64encode(png).decode()


def _draw_raster(item: VisualInput, tile: Tile) -> Image.Image:
    """One raster with a line between its cells."""
    from PIL import Image, ImageDraw

    kept = set(item.kept.tolist())
    core = set() if item.core is None else set(item.kept[item.core.to(item.kept.device)].tolist())
    absent = set() if item.absent is None else set(item.absent.nonzero().squeeze(1).tolist())
    out = Image.new("RGB", (tile.columns * SIDE, tile.rows * SIDE), PAPER)
    pen = ImageDraw.Draw(out)
    for cell, token in enumerate(tile.tokens()):
        row, column = divmod(cell, tile.columns)
        color = CORE if token in core else KEPT if token in kept else ABSENT if token in absent else DROPPED
        left, top = column * SIDE, row * SIDE
        pen.rectangle((left, top, left + SIDE - 2, top + SIDE - 2), fill=color)
    return out
