"""Which tokens of a report lie where on which image."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from PIL import Image

from foveate.errors import InputError
from foveate.method.scoring import scale_min_max
from foveate.models.visual_input import Tile, VisualInput
from foveate.pipeline.report import Report
from foveate.runtime.files import to_rgb
from foveate.viz.paint import Panel, TokenState
from foveate.viz.region import pad_to_square, visible_region

Step = Literal["all", "look", "kept", "map"]


def make_panels(
    images: Sequence[Image.Image], report: Report, processor: Any, item: int | None, step: Step = "all"
) -> list[list[Panel]]:
    """The panels of every image or frame: one, or its tiles and its overview. Raises `InputError` as `draw` says."""
    items, images = _select_items(report, item), [to_rgb(image) for image in images]
    if len(items) == 1 and items[0].modality == "video" and len(images) > 1:
        return [_choose_parts(panels, step) for panels in _make_frame_panels(images, items[0], step)]
    if len(images) != len(items):
        raise InputError(
            f"{len(images)} images do not fit the {len(items)} of the report: pass one for each, or the frames of one "
            "video, or select one of the report, such as item=0."
        )
    return [
        _choose_parts(_make_image_panels(image, visual, processor, step), step)
        for image, visual in zip(images, items, strict=True)
    ]


def _choose_parts(panels: Sequence[Panel], step: Step) -> list[Panel]:
    """The panels without their heat for "kept", with nothing else for "map"."""
    if step == "kept":
        return [replace(panel, heat=[None] * len(panel.heat)) for panel in panels]
    if step != "map":
        return list(panels)
    if all(heat is None for panel in panels for heat in panel.heat):
        raise InputError("The report holds no relevance: prune with explain=True and a method that has one.")
    return [replace(panel, states=()) for panel in panels]


def choose_layout(count: int, size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of `count` square tiles of an image of this (width, height): the nearest to its shape.

    The model's inputs do not contain it. Processors choose a number of tiles for which some layout fits the image well.
    """
    shape = math.log(size[0] / size[1])
    layouts = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    return min(layouts, key=lambda layout: (round(abs(math.log(layout[1] / layout[0]) - shape), 9), -layout[0]))


def _select_items(report: Report, item: int | None) -> list[VisualInput]:
    if item is None:
        items = [visual for visual in report.items if visual.modality != "audio"]
    else:
        items = list(report.items[item:][:1]) if -len(report.items) <= item else []
    if not items or items[0].modality == "audio":
        where = "" if item is None else f" at item={item}"
        raise InputError(f"The report holds no image{where}: draw the report of a call with an image.")
    if not all(visual.tiles for visual in items):
        raise InputError("This model's tokens form no raster, so they cannot be drawn: leave the overlay out.")
    return items


def _make_frame_panels(images: Sequence[Image.Image], video: VisualInput, step: Step) -> list[list[Panel]]:
    """Each frame of the video's tokens on the middle one of the images that it covers."""
    count = len(video.tiles)
    if len(images) < count:
        raise InputError(f"The video has tokens of {count} frames: pass its {count} frames or more, not {len(images)}.")
    middles = [int((number + 0.5) * len(images) / count) for number in range(count)]
    return [
        [_make_panel(images[middle], state, [tile], (1, 1)) for state in _list_states(video, step)]
        for middle, tile in zip(middles, video.tiles, strict=True)
    ]


def _make_image_panels(image: Image.Image, visual: VisualInput, processor: Any, step: Step) -> list[Panel]:
    if len(visual.tiles) == 1:
        if visual.tiles[0].padded:
            image = pad_to_square(image)
        elif processor is not None:
            image = _crop_as_processor(image, visual, getattr(processor, "image_processor", processor))
        return [_make_panel(image, state, state.tiles, (1, 1)) for state in _list_states(visual, step)]
    if visual.modality == "video":
        raise InputError(f"The video has tokens of {len(visual.tiles)} frames: pass its frames as a sequence.")
    tiles, overviews = ([tile for tile in visual.tiles if tile.overview is whole] for whole in (False, True))
    if len(overviews) != 1 or len({(tile.rows, tile.columns) for tile in tiles}) != 1:
        raise InputError("How this model's tiles lie over the image is unknown: leave the overlay out.")
    parts = (tiles, choose_layout(len(tiles), image.size)), (overviews, (1, 1))
    return [_make_panel(image, state, *part) for state in _list_states(visual, step) for part in parts]


def _list_states(visual: VisualInput, step: Step) -> list[VisualInput]:
    """The first look with its attention, if there was one, then what was kept; with a `step`, this alone."""
    look = [] if visual.look is None else [replace(visual, kept=visual.look, relevance=visual.attention, core=None)]
    if step == "look" and not look:
        raise InputError("The report holds no first look: prune with a method that has one, such as glance.")
    return {"all": [*look, visual], "look": look, "kept": [visual], "map": [visual]}[step]


def _crop_as_processor(image: Image.Image, visual: VisualInput, image_processor: Any) -> Image.Image:
    """The region that reaches the model, if the processor crops or pads whole images (not tiles, not frames).

    A processor that pads to something else than a square pads the batch.
    """
    (tile,) = visual.tiles
    is_whole = visual.modality == "image" and visual.grid is not None and not (tile.overview or visual.is_part)
    pads_batch = getattr(image_processor, "do_pad", False) and tile.rows != tile.columns
    return visible_region(image, image_processor) if is_whole and not pads_batch else image


def _make_panel(image: Image.Image, visual: VisualInput, tiles: Sequence[Tile], layout: tuple[int, int]) -> Panel:
    """The image under equal tiles that lie in (rows, columns) over it."""
    rows, columns = tiles[0].rows, tiles[0].columns
    down, across = layout
    states = [TokenState.DROPPED] * (down * rows * across * columns)
    heat: list[float | None] = [None] * len(states)
    token_states, token_heat = _read_states(visual)
    for number, tile in enumerate(tiles):
        tile_row, tile_column = divmod(number, across)
        for cell, token in enumerate(tile.tokens()):
            row, column = divmod(cell, columns)
            place = (tile_row * rows + row) * across * columns + tile_column * columns + column
            states[place], heat[place] = token_states[token], token_heat[token]
    return Panel(image, down * rows, across * columns, states, heat)


def _read_states(visual: VisualInput) -> tuple[list[TokenState], list[float | None]]:
    """The state and the heat of every token. A constant relevance explains nothing."""
    relevance = torch.full((visual.total,), torch.nan) if visual.relevance is None else visual.relevance
    known = ~relevance.isnan()
    scaled = scale_min_max(relevance[known]) if bool(known.any()) else relevance[known]
    explained = bool(scaled.any())
    absent = [False] * visual.total if visual.absent is None else visual.absent.tolist()
    states = [TokenState.ABSENT if missing else TokenState.DROPPED for missing in absent]
    core = visual.core.tolist() if explained and visual.core is not None else []
    kept = TokenState.LOOK if visual.kept is visual.look else TokenState.KEPT
    for place, token in enumerate(visual.kept.tolist()):
        states[token] = kept if not core else TokenState.CORE if core[place] else TokenState.COMPLEMENT
    heat: list[float | None] = [None] * visual.total
    for token, value in zip(known.nonzero().squeeze(1).tolist(), scaled.tolist(), strict=True):
        if explained and states[token] is not TokenState.ABSENT:
            heat[token] = value
    return states, heat
