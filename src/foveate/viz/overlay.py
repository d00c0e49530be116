"""`draw`: the image, the kept tokens and the map of relevance side by side or in a contact sheet, above a legend."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from PIL import Image, ImageDraw, ImageFont

from foveate.errors import InputError, describe
from foveate.method.checks import is_int
from foveate.pipeline.report import Report
from foveate.viz.legend import FONT, INK, PAPER, draw_legend, list_entries
from foveate.viz.paint import Panel, paint_map, paint_panel
from foveate.viz.panels import Step, make_panels

LONGER_SIDE = 512  # pixels of a panel, at least
SHEET, SHEET_SIDE = 4, 256  # with more images than SHEET, panels may be SHEET_SIDE pixels long
CELL, LARGEST = 14, 1024  # a panel grows until its cells are CELL pixels wide, or until it is LARGEST pixels long
LEAST_CELL = 10  # pixels: where cells would be thinner still, the panel is stretched
LEAST_WIDTH = 360  # pixels of a sheet with a legend
TALL = 2  # times the width
WIDTH_PER_TITLE_POINT = 80  # of several reports: one point of their titles and legends for so many pixels of all
GAP, EDGE = 8, (190, 193, 198)  # between panels, and around the original, which may be white
FEW, SHAPE = 4, 1.6  # so few panels of one image stand in even rows, together about SHAPE times as wide as high
FEW_REPORTS = 6  # so few reports do, too


def draw(
    image: Image.Image | Sequence[Image.Image],
    report: Report | Sequence[Report],
    *,
    processor: Any = None,
    item: int | None = None,
    legend: bool = True,
    step: Step = "all",
    original: bool | None = None,
) -> Image.Image:
    """Draw which visual tokens a report kept, over the image that they belong to.

    Kept tokens are as they are, dropped ones lie under a light veil; the original stands beside them. If the report was
    made with `explain=True`, core tokens (kept for their relevance) have a full amber frame and complement tokens (kept
    for their diversity) blue corners, and a map shows the relevance of all tokens, the darker the more relevant. Where
    the method does not read the question the legend says so. A first look (`method="glance"`) stands before what was
    kept, with thin frames and the map of its attention. Tiles lie where they were cut out, beside the overview of the
    whole image; of those that were not encoded (`encode`) only diagonal lines are shown. The frames of a video stand in
    reading order. Images so thin that cells would be too are stretched.

    Args:
        image: one image, or a sequence: one for each image of the report, or at least as many frames as its video has.
        report: what `prune_inputs`, `attach` or `pruning` reported. Several reports on the same image (two methods, two
            budgets) are drawn side by side, each with its title.
        processor: the model's processor. With it, only the region of an image that reaches the model is drawn, if
            the processor crops or pads.
        item: the index of the image or video of the report that is meant; all of them without it.
        legend: whether to add a strip that explains the marks, with counts.
        step: "look" draws a first look alone, "kept" what was kept, "map" the map of relevance, "all" all of these.
        original: whether the original stands beside; None for beside a single image.

    Returns:
        A new RGB image, its longer side at least 512 pixels.

    Raises:
        InputError: if the report holds no image, or not the step; if they do not match; or if tokens form no raster.

    Example:
        >>> short = foveate.prune_inputs(model, inputs, keep=0.1, explain=True)
        >>> foveate.draw(image, short.report, processor=processor).save("kept.png")
    """
    images = _list_images(image)
    reports: list[Any] = list(report) if isinstance(report, (list, tuple)) else [report]
    _check_options(reports, item, step, legend, original)
    groups = [make_panels(images, one, processor, item, step) for one in reports]
    beside = len(groups[0]) == 1 if original is None else original
    if len(reports) == 1:
        sheet = _paint_groups(groups[0], beside)
        return _add_legend(sheet, groups[0], reports[0].prompt_aware) if legend else sheet
    return _draw_side_by_side(groups, reports, legend, beside)


def _list_images(image: object) -> list[Image.Image]:
    """The images to draw on. Raises `InputError` for anything else."""
    images = [image] if isinstance(image, Image.Image) else list(image) if isinstance(image, Iterable) else []
    if not images or not all(isinstance(one, Image.Image) for one in images):
        raise InputError("image holds no image: pass one of Pillow's images, or a sequence of them.")
    if not all(min(one.size) for one in images):
        raise InputError("image has no pixels: pass an image of at least 1 x 1 pixels.")
    return images


def _draw_side_by_side(
    groups: Sequence[Sequence[Sequence[Panel]]], reports: Sequence[Report], legend: bool, original: bool
) -> Image.Image:
    """The panels of every report under its title, after the original."""
    shape = groups[0][0][0].image
    below = 1 if shape.height < TALL * shape.width else None  # the map below what was kept, or beside it
    sheets = [_paint_groups(panels, False, below) for panels in groups]
    titles = [str(one) for one in reports]
    if original:
        shown = [_paint_original(panels[0].image, _choose_size(panels, len(groups[0]))) for panels in groups[0]]
        sheets, titles = [make_sheet(shown), *sheets], ["the image", *titles]
    columns = _choose_columns(sheets, FEW_REPORTS)
    points = max(FONT, columns * max(sheet.width for sheet in sheets) // WIDTH_PER_TITLE_POINT)
    if legend:
        of_reports = sheets[-len(reports) :]
        sheets[-len(reports) :] = [
            _add_legend(sheet, panels, one.prompt_aware, points)
            for sheet, panels, one in zip(of_reports, groups, reports, strict=True)
        ]
    return make_sheet(_add_titles(sheets, titles, points), columns)


def _check_options(reports: Sequence[object], item: object, step: object, legend: object, original: object) -> None:
    """Raise `InputError` for an argument of a wrong type."""
    if not reports:
        raise InputError("report holds no report: pass at least one.")
    for report in reports:
        if not isinstance(report, Report):
            raise InputError(f"report is {describe(report)}: pass what prune_inputs, attach or pruning reported.")
    if not (item is None or is_int(item)):
        raise InputError(f"item={describe(item)} is not an index of the report: pass an int.")
    if not (isinstance(step, str) and step in get_args(Step)):
        raise InputError(f"step={describe(step)} is not known: use one of {', '.join(get_args(Step))}.")
    if not isinstance(legend, bool):
        raise InputError(f"legend={describe(legend)} is neither True nor False.")
    if not (original is None or isinstance(original, bool)):
        raise InputError(f"original={describe(original)} is neither True, False nor None.")


def _paint_groups(groups: Sequence[Sequence[Panel]], original: bool, columns: int | None = None) -> Image.Image:
    """The panels of every image; those of one image in so many columns."""
    return make_sheet([_paint_group(group, len(groups), original, columns) for group in groups])


def _add_legend(
    sheet: Image.Image, groups: Sequence[Sequence[Panel]], prompt_aware: bool, points: int | None = None
) -> Image.Image:
    """The sheet above a strip that explains the marks of its panels."""
    entries = list_entries([panel for group in groups for panel in group], prompt_aware=prompt_aware)
    return stack([sheet, draw_legend(entries, max(sheet.width, LEAST_WIDTH), points)])


def _add_titles(sheets: Sequence[Image.Image], titles: Sequence[str], points: int) -> list[Image.Image]:
    """The sheets under their titles, which all stand in two lines if one of them is too long."""
    font = ImageFont.load_default(size=points)
    fit = all(font.getlength(title) + 2 <= sheet.width for sheet, title in zip(sheets, titles, strict=True))
    return [
        _add_title(sheet, [title] if fit else [*title.split(": ", 1), ""][:2], points)
        for sheet, title in zip(sheets, titles, strict=True)
    ]


def _add_title(sheet: Image.Image, lines: Sequence[str], points: int) -> Image.Image:
    """The sheet under the lines of its title."""
    font = ImageFont.load_default(size=points)
    width = max(sheet.width, *(round(font.getlength(line)) + 2 for line in lines))
    strip = Image.new("RGB", (width, round(points * (0.75 + 1.25 * len(lines)))), PAPER)
    for number, line in enumerate(lines):
        place = 1, round(points * (1 + 1.25 * number))
        ImageDraw.Draw(strip).text(place, line, font=font, fill=INK, anchor="lm")
    return stack([strip, sheet])


def stack(images: Sequence[Image.Image]) -> Image.Image:
    """The images one above the other, on paper."""
    out = Image.new("RGB", (max(image.width for image in images), sum(image.height for image in images)), PAPER)
    top = 0
    for image in images:
        out.paste(image, (0, top))
        top += image.height
    return out


def _paint_group(panels: Sequence[Panel], groups: int, original: bool, columns: int | None) -> Image.Image:
    """The panels of one image: the original, what was kept, and the maps of relevance."""
    size = _choose_size(panels, groups)
    cells = max(panel.columns for panel in panels), max(panel.rows for panel in panels)
    width, height = (max(size[axis], min(LEAST_CELL * cells[axis], LARGEST)) for axis in (0, 1))
    out = [_paint_original(panels[0].image, size)] if original else []
    out += [paint_panel(panel, (width, height)) for panel in panels if panel.states]
    maps = [panel for panel in panels if any(heat is not None for heat in panel.heat)]
    out += [paint_map(panel, (width, height)) for panel in maps]
    return make_sheet(out, columns or _choose_columns(out))


def _choose_size(panels: Sequence[Panel], groups: int) -> tuple[int, int]:
    """Width and height of a panel with the shape of the image."""
    width, height = panels[0].image.size
    longer = max(width, height)
    least = LONGER_SIDE if groups <= SHEET or longer > 2 * min(width, height) else SHEET_SIDE
    widest = max(CELL * longer * max(panel.columns / width, panel.rows / height) for panel in panels)
    side = max(least, min(widest, LARGEST), longer if groups == 1 else 0)
    return max(1, round(width * side / longer)), max(1, round(height * side / longer))


def _paint_original(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image itself in a thin line."""
    out = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    ImageDraw.Draw(out).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=EDGE)
    return out


def _choose_columns(images: Sequence[Image.Image], few: int = FEW) -> int:
    """In how many columns images of about one size are no strip; so few of them without a hole."""
    count = len(images)
    width, height = (max(image.size[axis] for image in images) + GAP for axis in (0, 1))
    even = [columns for columns in range(1, count + 1) if count % columns == 0 or count > few]
    return min(even, key=lambda columns: abs(math.log(columns * width / -(-count // columns) / height / SHAPE)))


def make_sheet(images: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """The images in rows from left to right; without a number of columns, the sheet is about square."""
    if len(images) == 1:
        return images[0]
    width, height = (max(image.size[axis] for image in images) + GAP for axis in (0, 1))
    if columns is None:
        columns = min(range(1, len(images) + 1), key=lambda c: abs(math.log(c * width / -(-len(images) // c) / height)))
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    heights = [max(image.height for image in row) + GAP for row in rows]
    out = Image.new("RGB", (columns * width - GAP, sum(heights) - GAP), PAPER)
    for number, row in enumerate(rows):
        for column, image in enumerate(row):
            out.paste(image, (column * width, sum(heights[:number])))
    return out
