"""Which tokens of a report lie where on which picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image

from foveate.errors import InputError
from foveate.method.scoring import scale_min_max
from foveate.models.visual_input import Tile, Tiles, VisualInput, tile_frames
from foveate.pipeline.report import Report
from foveate.viz.paint import Panel, TokenState
from foveate.viz.region import pad_to_square, visible_region


def make_panels(images: Sequence[Image.Image], report: Report, processor: Any, item: int | None) -> list[list[Panel]]:
    """The panels of every image or frame: one, or its tiles and its overview. Raises `InputError` as `draw` says."""
    items = _choose_items(report, item)
    if len(items) == 1 and items[0].modality == "video" and len(images) > 1:
        return _draw_video(images, items[0])
    if len(images) != len(items):
        raise InputError(
            f"{len(images)} images do not fit the {len(items)} of the report: give one for each, or the frames of "
            "one video, and name what to draw with item=0."
        )
    return [_draw_image(image, shown, processor) for image, shown in zip(images, items, strict=True)]


def choose_layout(count: int, size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of so many square tiles of a picture of this (width, height): the nearest to its shape.

    No input tells it. Processors choose the number so that some arrangement fits the picture well, and this finds it.
    """
    shape = math.log(size[0] / size[1])
    ways = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    return min(ways, key=lambda way: (round(abs(math.log(way[1] / way[0]) - shape), 9), -way[0]))


def _choose_items(report: Report, item: int | None) -> list[VisualInput]:
    count = len(report.items)
    if item is None:
        items = [shown for shown in report.items if shown.modality != "audio"]
    else:
        items = [report.items[item]] if -count <= item < count else []
    if not items:
        where = "" if item is None else f" at item={item}"
        raise InputError(f"The report holds no image{where}: draw with that of a call that showed the model one.")
    if not all(shown.tiles or shown.grid for shown in items):
        raise InputError("This model's tokens lie in no raster, so they cannot be drawn: leave the overlay out.")
    return items


def _read_tiles(item: VisualInput) -> Tiles:
    """In-decoder methods report grids alone."""
    return item.tiles or (() if item.grid is None else tile_frames(item.grid))


def _draw_video(images: Sequence[Image.Image], item: VisualInput) -> list[list[Panel]]:
    """Each tile on the frame in the middle of those that it shows."""
    tiles = _read_tiles(item)
    if len(images) < len(tiles):
        raise InputError(
            f"The video has tokens of {len(tiles)} frames: give its {len(tiles)} frames or more, not {len(images)}."
        )
    middles = [int((number + 0.5) * len(images) / len(tiles)) for number in range(len(tiles))]
    return [[_make_panel(images[m], item, [tile], (1, 1))] for m, tile in zip(middles, tiles, strict=True)]


def _draw_image(image: Image.Image, item: VisualInput, processor: Any) -> list[Panel]:
    tiles = _read_tiles(item)
    if len(tiles) == 1:
        if tiles[0].padded:
            image = pad_to_square(image)
        elif processor is not None and _reshapes(item, tiles[0], processor):
            image = visible_region(image, getattr(processor, "image_processor", processor))
        return [_make_panel(image, item, tiles, (1, 1))]
    if item.modality == "video":
        raise InputError(f"The video has tokens of {len(tiles)} frames: give its frames as a sequence of images.")
    parts, whole = [tile for tile in tiles if not tile.overview], [tile for tile in tiles if tile.overview]
    if len(whole) != 1 or len({(tile.rows, tile.columns) for tile in parts}) > 1:
        raise InputError("How this model's tiles lie on the image is not known: leave the overlay out.")
    layout = choose_layout(len(parts), image.size)
    return [_make_panel(image, item, parts, layout), _make_panel(image, item, whole, (1, 1))]


def _reshapes(item: VisualInput, tile: Tile, processor: Any) -> bool:
    """Whether the processor may cut or pad an image as a whole: not into tiles, and not a video's frames.

    Where the raster is no square, what it pads is the batch.
    """
    pads = getattr(getattr(processor, "image_processor", processor), "do_pad", False)
    is_whole = item.grid is not None and not tile.overview and item.modality == "image"
    return is_whole and (tile.rows == tile.columns or not pads)


def _make_panel(image: Image.Image, item: VisualInput, tiles: Sequence[Tile], layout: tuple[int, int]) -> Panel:
    """The image under all of these tiles, which are alike and lie in (rows, columns)."""
    rows, columns = tiles[0].rows, tiles[0].columns
    down, across = layout
    size = down * rows * across * columns
    states = [TokenState.DROPPED] * size
    heat: list[float | None] = [None] * size
    token_states, token_heat = _read_states(item)
    for number, tile in enumerate(tiles):
        tile_row, tile_column = divmod(number, across)
        for cell, token in enumerate(tile.tokens()):
            row, column = divmod(cell, columns)
            place = (tile_row * rows + row) * across * columns + tile_column * columns + column
            states[place], heat[place] = token_states[token], token_heat[token]
    return Panel(image, down * rows, across * columns, states, heat)


def _read_states(item: VisualInput) -> tuple[list[TokenState], list[float | None]]:
    """The state of every token of an item, and the heat of the dropped ones; none where relevance says nothing."""
    states = [TokenState.DROPPED] * item.total
    heat: list[float | None] = [None] * item.total
    known = None if item.relevance is None else ~item.relevance.isnan()
    scaled = None
    if item.relevance is not None and known is not None and bool(known.any()):
        scaled = scale_min_max(item.relevance[known])
    core = item.core.tolist() if item.core is not None and scaled is not None and bool(scaled.any()) else None
    for place, token in enumerate(item.kept.tolist()):
        states[token] = TokenState.KEPT if core is None else TokenState.CORE if core[place] else TokenState.COMPLEMENT
    if core is not None and scaled is not None and known is not None:
        for token, value in zip(known.nonzero().squeeze(1).tolist(), scaled.tolist(), strict=True):
            heat[token] = None if states[token] is not TokenState.DROPPED else value
    return states, heat
