"""`draw`: the kept visual tokens, bright over the darkened picture."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageEnhance
from torch import Tensor

from foveate.errors import InputError

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
LONGER_SIDE = 512  # pixels, at least
DARK, PALE = 0.45, 0.15  # brightness and saturation left where tokens were dropped
EDGE = (255, 176, 0)  # amber: told from the ground by lightness, so it survives colour-blindness and a grey printer
EDGE_SHADE = (0, 0, 0)  # a dark line inside the amber one keeps it visible on a light cell


def draw(image: Image.Image, kept: Tensor | Iterable[int], grid: tuple[int, int, int] | None) -> Image.Image:
    """Show which of a picture's visual tokens were kept.

    `image` is what the model saw (see `seen_part`), `kept` the kept indices into the tokens in raster order, `grid`
    their (1, h, w), as in a report. Returns a new RGB picture of the same shape, its longer side at
    least 512 pixels.

    Raises `InputError` if there is no grid, if it holds several frames, or if an index lies outside of it.
    """
    if grid is None:
        raise InputError("This model's tokens have no raster, so they cannot be drawn: leave the overlay out.")
    frames, rows, columns = grid
    indices = [int(i) for i in kept]
    if frames != 1:
        raise InputError(f"grid={grid} holds {frames} frames: draw a picture's tokens, (1, h, w).")
    if any(not 0 <= i < rows * columns for i in indices):
        raise InputError(f"kept holds indices outside of grid={grid}: give those of the same report.")
    scale = max(1.0, LONGER_SIDE / max(image.size))
    bright = image.convert("RGB").resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
    )
    out = ImageEnhance.Brightness(ImageEnhance.Color(bright).enhance(PALE)).enhance(DARK)
    pen = ImageDraw.Draw(out)
    for index in indices:
        box = _cell(index, rows, columns, bright.size)
        out.paste(bright.crop(box), box)
        edge = (box[0], box[1], box[2] - 1, box[3] - 1)
        if min(edge[2] - edge[0], edge[3] - edge[1]) >= 6:
            pen.rectangle((edge[0] + 1, edge[1] + 1, edge[2] - 1, edge[3] - 1), outline=EDGE_SHADE)
        if edge[2] > edge[0] and edge[3] > edge[1]:
            pen.rectangle(edge, outline=EDGE)
    return out


def seen_part(image: Image.Image, image_processor: Any) -> Image.Image:
    """The part of `image` that reaches the model: CLIP's processor cuts off what lies outside of the central square.

    Where the processor pads instead, the padding is part of what the model sees, here in black.
    """
    width, height = image.size
    if getattr(image_processor, "do_pad", False):
        side = max(width, height)
        left, top = (side - width) // 2, (side - height) // 2
        image = image.crop((-left, -top, side - left, side - top))
        width = height = side
    crop, size = getattr(image_processor, "crop_size", None), getattr(image_processor, "size", None) or {}
    if not getattr(image_processor, "do_center_crop", False) or not crop:
        return image
    short = _get(size, "shortest_edge")
    scale_x, scale_y = (
        (short / min(width, height),) * 2 if short else (_get(size, "width") / width, _get(size, "height") / height)
    )
    half_x, half_y = _get(crop, "width") / scale_x / 2, _get(crop, "height") / scale_y / 2
    return image.crop(
        (round(width / 2 - half_x), round(height / 2 - half_y), round(width / 2 + half_x), round(height / 2 + half_y))
    )


def check_overlay(path: Path) -> None:
    """Whether `save` can write there: a picture's suffix, in a folder that exists. Raises `InputError` if not."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path} is no picture's name: let the overlay end in one of {', '.join(FORMATS)}.")
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent} for the overlay: create it first.")
    if path.is_dir():
        raise InputError(f"The overlay {path} is a folder: give the name of a file in it.")


def save(image: Image.Image, path: Path) -> None:
    """Write beside, then rename: whoever reads `path` never sees half a picture. Raises `InputError` if it cannot."""
    check_overlay(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        image.save(part, format=FORMATS[path.suffix.lower()])
        part.replace(path)
    except OSError as error:
        raise InputError(f"The overlay {path} cannot be written ({error.strerror or error}).") from error
    finally:
        part.unlink(missing_ok=True)


def _get(size: Any, name: str) -> float:
    value = size.get(name) if hasattr(size, "get") else getattr(size, name, None)
    return float(value or 0)


def _cell(index: int, rows: int, columns: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels of one token; neighbours share a border, and together the cells fill the picture."""
    row, column = divmod(index, columns)
    width, height = size
    return (
        round(column * width / columns), round(row * height / rows),
        round((column + 1) * width / columns), round((row + 1) * height / rows),
    )  # fmt: skip
