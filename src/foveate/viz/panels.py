"""Which tokens of a report lie where on which picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image

from foveate.errors import InputError
from foveate.method.scoring import scale_min_max
from foveate.models.item import View, Views, frames
from foveate.pipeline.prune import Report
from foveate.viz.paint import Panel, TokenState
from foveate.viz.region import pad_to_square, visible_region

Placed = tuple[int, View]  # an item of the report, and one of its views


def make_panels(
    pictures: Sequence[Image.Image], report: Report, processor: Any, item: int | slice | None
) -> list[list[Panel]]:
    """The panels of every picture or frame: one, or its tiles and its overview. Raises `InputError` as `draw` says."""
    items = _items(report, item)
    placed = [[(n, view) for view in _views(report, n)] for n in items]
    is_clip = all(_modality(report, n) == "video" for n in items)
    together = len(items) == 1 or report.tiles_apart
    if is_clip and together and len(pictures) > 1:
        return _clip(pictures, report, [one for views in placed for one in views])
    if len(pictures) == len(items):
        groups = list(zip(pictures, placed, strict=True))
    elif len(pictures) == 1 and report.tiles_apart and not is_clip:
        groups = [(pictures[0], [one for views in placed for one in views])]
    else:
        raise InputError(
            f"{len(pictures)} pictures do not fit the {len(items)} of the report: give one for each, or the frames of "
            "one clip, and name what is meant with item=0, or item=slice(0, 5) for the tiles of one picture."
        )
    return [_picture(picture, report, views, processor) for picture, views in groups]


def choose_layout(count: int, size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of so many square tiles of a picture of this (width, height): the nearest to its shape.

    No input tells it. Processors choose the number so that some arrangement fits the picture well, and this finds it.
    """
    shape = math.log(size[0] / size[1])
    ways = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    return min(ways, key=lambda way: (round(abs(math.log(way[1] / way[0]) - shape), 9), -way[0]))


def _items(report: Report, item: int | slice | None) -> list[int]:
    every = range(len(report.kept))
    if item is None:
        found = [n for n in every if _modality(report, n) != "audio"]
    elif isinstance(item, slice):
        found = list(every[item])
    else:
        found = [every[item]] if -len(every) <= item < len(every) else []
    if not found:
        where = "" if item is None else f" at item={item}"
        raise InputError(f"The report holds no picture{where}: draw with that of a call that showed the model one.")
    return found


def _modality(report: Report, n: int) -> str:
    return report.modalities[n] if report.modalities else "image"


def _views(report: Report, n: int) -> Views:
    """Of one item; what prunes in the decoder reports grids alone."""
    grid = report.grids[n]
    found = report.views[n] if report.views else () if grid is None else frames(grid)
    if not found:
        raise InputError("This model's tokens lie in no raster, so they cannot be drawn: leave the overlay out.")
    return found


def _clip(pictures: Sequence[Image.Image], report: Report, placed: Sequence[Placed]) -> list[list[Panel]]:
    """Each view on the frame in the middle of those that it stands for."""
    count = len(placed)
    if len(pictures) < count:
        raise InputError(
            f"The clip has tokens of {count} frames: give its {count} frames or more, not {len(pictures)}."
        )
    middles = [int((number + 0.5) * len(pictures) / count) for number in range(count)]
    return [[_panel(pictures[m], report, [one], (1, 1))] for m, one in zip(middles, placed, strict=True)]


def _picture(picture: Image.Image, report: Report, placed: Sequence[Placed], processor: Any) -> list[Panel]:
    first, view = placed[0]
    if len(placed) == 1:
        if view.padded:
            picture = pad_to_square(picture)
        elif processor is not None and _reshapes(report, first, view, processor):
            picture = visible_region(picture, getattr(processor, "image_processor", processor))
        return [_panel(picture, report, placed, (1, 1))]
    if _modality(report, first) == "video":
        raise InputError(f"The clip has tokens of {len(placed)} frames: give its frames as a sequence of pictures.")
    tiles, whole = (placed[1:], placed[:1]) if report.overview == "first" else (placed[:-1], placed[-1:])
    shapes = {(tile.rows, tile.columns) for _, tile in tiles}
    if report.tiles_apart and not report.overview:
        raise InputError("How this model's tiles lie on the picture cannot be told: draw them one by one, item=0.")
    if not report.overview or len(shapes) > 1 or (report.tiles_apart and len(tiles) == 1):
        raise InputError(
            f"These {len(placed)} are not the tiles and the overview of one picture: name those with item=slice(0, 5)."
        )
    way = choose_layout(len(tiles), picture.size)
    return [_panel(picture, report, tiles, way), _panel(picture, report, whole, (1, 1))]


def _reshapes(report: Report, n: int, view: View, processor: Any) -> bool:
    """Whether the processor may cut or pad a picture as a whole: not into tiles, and not a clip's frames.

    Where the raster is no square, what it pads is the batch.
    """
    pads = getattr(getattr(processor, "image_processor", processor), "do_pad", False)
    tiled = report.tiles_apart or bool(report.overview)
    whole = report.grids[n] is not None and not tiled and _modality(report, n) == "image"
    return whole and (view.rows == view.columns or not pads)


def _panel(picture: Image.Image, report: Report, placed: Sequence[Placed], way: tuple[int, int]) -> Panel:
    """The picture under all of these views, which are alike and lie in (rows, columns)."""
    rows, columns = placed[0][1].rows, placed[0][1].columns
    down, across = way
    size = down * rows * across * columns
    states = [TokenState.DROPPED] * size
    heat: list[float | None] = [None] * size
    known = {n: _states(report, n) for n, _ in placed}
    for number, (n, view) in enumerate(placed):
        tile_row, tile_column = divmod(number, across)
        for cell, token in enumerate(view.tokens()):
            row, column = divmod(cell, columns)
            place = (tile_row * rows + row) * across * columns + tile_column * columns + column
            states[place], heat[place] = known[n][0][token], known[n][1][token]
    return Panel(picture, down * rows, across * columns, states, heat)


def _states(report: Report, n: int) -> tuple[list[TokenState], list[float | None]]:
    """What became of every token of an item, and the heat of the dropped ones; none where relevance says nothing."""
    states = [TokenState.DROPPED] * report.total[n]
    heat: list[float | None] = [None] * report.total[n]
    relevance = report.relevance[n] if report.relevance else None
    known = None if relevance is None else ~relevance.isnan()
    scaled = None if relevance is None or known is None or not bool(known.any()) else scale_min_max(relevance[known])
    explained = scaled is not None and bool(scaled.any())
    core = report.core[n].tolist() if explained else []
    for place, token in enumerate(report.kept[n].tolist()):
        states[token] = (TokenState.CORE if core[place] else TokenState.COMPLEMENT) if explained else TokenState.KEPT
    if explained and scaled is not None and known is not None:
        for token, value in zip(known.nonzero().squeeze(1).tolist(), scaled.tolist(), strict=True):
            heat[token] = None if states[token] is not TokenState.DROPPED else value
    return states, heat
