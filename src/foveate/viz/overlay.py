"""`draw`: panels side by side or in a contact sheet, above a legend."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from PIL import Image

from foveate.errors import InputError, describe
from foveate.method.checks import is_int
from foveate.pipeline.report import Report
from foveate.viz.legend import PAPER, draw_legend, list_entries
from foveate.viz.paint import Panel, paint_panel
from foveate.viz.panels import Step, make_panels

LONGER_SIDE = 512  # pixels of a panel, at least
SHEET, SHEET_SIDE = 4, 256  # with more images than SHEET, panels may be SHEET_SIDE pixels long
CELL, LARGEST = 14, 1024  # a panel grows until its cells are CELL pixels wide, or until it is LARGEST pixels long
GAP = 8


def draw(
    image: Image.Image | Sequence[Image.Image],
    report: Report,
    *,
    processor: Any = None,
    item: int | None = None,
    legend: bool = True,
    step: Step = "all",
) -> Image.Image:
    """Draw which visual tokens a report kept, over the image that they belong to.

    Kept tokens are bright over the darkened image. If the report was made with `explain=True`, core tokens (kept for
    their relevance) have a full amber frame and complement tokens (kept for their diversity) blue corners; dropped
    tokens are tinted red, the lighter the more relevant. A first look (`method="glance"`) stands before what was kept,
    with thin frames, tinted by the attention. Tiles lie where they were cut out, beside the overview of the
    whole image; those that were not encoded (`encode`) are dark under diagonal lines. The frames of a video stand in
    reading order.

    Args:
        image: one image, or a sequence: one image for each image of the report, or the frames of its video (at least
            as many as the report has). Images are not changed.
        report: what `prune_inputs`, `attach` or `pruning` reported.
        processor: the model's processor. With it, only the region of an image that reaches the model is drawn, if
            the processor crops or pads.
        item: the index of the image or video of the report that is meant; all of them without it.
        legend: whether to add a strip that explains the marks, with counts.
        step: "look" draws a first look alone, "kept" what was kept alone, "all" both.

    Returns:
        A new RGB image, its longer side at least 512 pixels.

    Raises:
        InputError: if the report holds no image, or not the step; if images and report do not match; or if the tokens
            form no raster.

    Example:
        >>> short = foveate.prune_inputs(model, inputs, keep=0.1, explain=True)
        >>> foveate.draw(image, short.report, processor=processor).save("kept.png")
    """
    images = [image] if isinstance(image, Image.Image) else list(image) if isinstance(image, Iterable) else []
    if not images or not all(isinstance(one, Image.Image) for one in images):
        raise InputError("image holds no image: pass one of Pillow's images, or a sequence of them.")
    if not all(min(one.size) for one in images):
        raise InputError("image has no pixels: pass an image of at least 1 x 1 pixels.")
    _check_options(report, item, step, legend)
    groups = make_panels(images, report, processor, item, step)
    sheet = make_sheet([_paint_group(group, len(groups)) for group in groups])
    return _add_legend(sheet, [panel for group in groups for panel in group]) if legend else sheet


def _check_options(report: object, item: object, step: object, legend: object) -> None:
    """Raise `InputError` for an argument of a wrong type."""
    if not isinstance(report, Report):
        raise InputError(f"report is {describe(report)}: pass what prune_inputs, attach or pruning reported.")
    if not (item is None or is_int(item)):
        raise InputError(f"item={describe(item)} is not an index of the report: pass an int.")
    if not (isinstance(step, str) and step in get_args(Step)):
        raise InputError(f"step={describe(step)} is not known: use one of {', '.join(get_args(Step))}.")
    if not isinstance(legend, bool):
        raise InputError(f"legend={describe(legend)} is neither True nor False.")


def _add_legend(sheet: Image.Image, panels: Sequence[Panel]) -> Image.Image:
    """The sheet above a strip that explains the marks on its panels."""
    strip = draw_legend(list_entries(panels), sheet.width)
    out = Image.new("RGB", (sheet.width, sheet.height + strip.height), PAPER)
    out.paste(sheet, (0, 0))
    out.paste(strip, (0, sheet.height))
    return out


def _paint_group(panels: Sequence[Panel], groups: int) -> Image.Image:
    """The panels of one image side by side, all of one size."""
    width, height = panels[0].image.size
    longer = max(width, height)
    least = LONGER_SIDE if groups <= SHEET or longer > 2 * min(width, height) else SHEET_SIDE
    widest = max(CELL * longer * max(panel.columns / width, panel.rows / height) for panel in panels)
    side = max(least, min(widest, LARGEST), longer if groups == 1 else 0)
    size = max(1, round(width * side / longer)), max(1, round(height * side / longer))
    return make_sheet([paint_panel(panel, size) for panel in panels], len(panels))


def make_sheet(images: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """The images in rows from left to right; without a number of columns, the sheet is about square."""
    if len(images) == 1:
        return images[0]
    width, height = (max(image.size[axis] for image in images) + GAP for axis in (0, 1))
    if columns is None:
        columns = min(range(1, len(images) + 1), key=lambda c: abs(math.log(c * width / -(-len(images) // c) / height)))
    rows = -(-len(images) // columns)
    out = Image.new("RGB", (columns * width - GAP, rows * height - GAP), PAPER)
    for number, image in enumerate(images):
        out.paste(image, (number % columns * width, number // columns * height))
    return out
