"""Draw a scene of the world as an image: background, filled forms, text."""

import math
import random
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from foveate.world.scenes import ADVANCE, CHARTS, COLORS, PAGES, SHAPES, SIGN, TRENDS, Scene, Thing

GLYPH = 0.115  # a glyph's font size, as a share of the image's height
OVERSAMPLE = 2  # images are drawn larger and scaled down, which smooths the edges
PAPER = (236, 234, 228)


def draw_scene(scene: Scene) -> Image.Image:
    """Draw the scene as an RGB image of its size."""
    width, height = scene.size
    big = (width * OVERSAMPLE, height * OVERSAMPLE)
    background = (
        _draw_paper(scene) if scene.kind in (*CHARTS, "fields", *PAGES) else _draw_clutter(scene.texture, scene.size)
    )
    canvas = background.resize(big, Image.Resampling.NEAREST)
    draw_things(canvas, scene.things, scene.texture)
    return canvas.resize(scene.size, Image.Resampling.BOX)


def draw_things(canvas: Image.Image, things: Sequence[Thing], texture: int) -> None:
    """Draw objects and their texts on a canvas; `texture` is the seed of small variations in colour and line."""
    pen = ImageDraw.Draw(canvas)
    for number, thing in enumerate(things):
        rng = random.Random(texture + number + 1)
        fill = tuple(min(255, max(0, c + rng.randint(-12, 12))) for c in COLORS[thing.color])
        fill_form(pen, thing, canvas.size, fill, rng)
        if locate_glyphs(thing):
            _write_text(pen, thing, canvas.size)


def locate_glyphs(thing: Thing) -> list[tuple[float, float, float, float]]:
    """Return (left, top, right, bottom) of every glyph of the object's text, as shares of the image's sides."""
    if thing.form == "bar":  # its text is its height, which is not written
        return []
    advance, half = thing.scale * ADVANCE, thing.scale * 0.05
    middle = thing.x + (0.5 * thing.rx if thing.form == "row" else 0.0)
    left = middle - len(thing.text) * advance / 2
    if thing.form in SHAPES:  # a field: its number stands right of it
        left = thing.x + 1.3 * thing.rx
    places = range(len(thing.text))
    return [(left + i * advance, thing.y - half, left + (i + 1) * advance, thing.y + half) for i in places]


def _write_text(pen: ImageDraw.ImageDraw, thing: Thing, big: tuple[int, int]) -> None:
    dark = thing.form != SIGN or thing.color in ("white", "yellow", "orange")
    font = _font(round(GLYPH * thing.scale * big[1]))
    for glyph, (x0, y0, x1, y1) in zip(thing.text.upper(), locate_glyphs(thing), strict=True):
        place = ((x0 + x1) / 2 * big[0], (y0 + y1) / 2 * big[1])
        pen.text(place, glyph, fill=(0, 0, 0) if dark else (255, 255, 255), font=font, anchor="mm", stroke_width=0.4)


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _draw_paper(scene: Scene) -> Image.Image:
    """Draw the background of a chart or of fields: paper with faint horizontal lines, a chart's with a base line."""
    rng = random.Random(scene.texture)
    width, height = scene.size
    sheet = Image.new("RGB", scene.size, tuple(c - rng.randint(0, 24) for c in PAPER))
    pen = ImageDraw.Draw(sheet)
    for i in range(1, rng.randint(4, 8)):
        y = i * height // 8
        pen.line((0, y, width, y), fill=(205, 205, 205))
    if scene.kind in CHARTS:
        pen.line((0.05 * width, 0.93 * height, 0.95 * width, 0.93 * height), fill=(90, 90, 90))
    return sheet


def _draw_clutter(texture: int, size: tuple[int, int]) -> Image.Image:
    """Draw a scene's background: a grey gradient with lines, discs and noise on it."""
    rng = np.random.default_rng(texture)
    corners = rng.uniform(85, 175, (2, 2, 1)) + rng.uniform(-14, 14, (2, 2, 3))
    soft = Image.fromarray(corners.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(soft)
    for _ in range(rng.integers(6, 16)):
        tone = tuple(int(v) for v in rng.uniform(80, 180) + rng.uniform(-16, 16, 3))
        x0, y0, x1, y1 = (rng.uniform(0, 1, 4) * (*size, *size)).tolist()
        if rng.random() < 0.6:
            pen.line((x0, y0, x1, y1), fill=tone, width=int(rng.integers(1, 5)))
        else:
            r = rng.uniform(0.01, 0.035) * size[0]
            pen.ellipse((x0 - r, y0 - r, x0 + r, y0 + r), fill=tone)
    noise = rng.normal(0, 8, (size[1], size[0], 1))
    return Image.fromarray((np.asarray(soft, np.float32) + noise).clip(0, 255).astype(np.uint8))


def fill_form(
    pen: ImageDraw.ImageDraw,
    thing: Thing,
    canvas: tuple[int, int],
    fill: int | tuple[int, ...],
    rng: random.Random | None = None,
) -> None:
    """Draw the filled form on a canvas of this (width, height); all shapes have about the same area.

    `rng` moves the corners of a chart's line a little; without it (for labels) they lie where the trend says.
    """
    x, y, rx, ry = thing.x * canvas[0], thing.y * canvas[1], thing.rx * canvas[0], thing.ry * canvas[1]
    if thing.form == "circle":
        pen.ellipse((x - 0.9 * rx, y - 0.9 * ry, x + 0.9 * rx, y + 0.9 * ry), fill=fill)
    elif thing.form == "cross":
        pen.rectangle((x - rx, y - 0.36 * ry, x + rx, y + 0.36 * ry), fill=fill)
        pen.rectangle((x - 0.36 * rx, y - ry, x + 0.36 * rx, y + ry), fill=fill)
    elif thing.form in (SIGN, "bar"):
        pen.rectangle((x - rx, y - ry, x + rx, y + ry), fill=fill)
    elif thing.form == "row":
        pen.rectangle((x - rx, y - 0.8 * ry, x - 0.2 * rx, y + 0.8 * ry), fill=fill)
    elif thing.form in TRENDS:
        corners = [(px, py + (rng.uniform(-0.12, 0.12) if rng else 0.0)) for px, py in _TREND[thing.form]]
        points = [(x + rx * px, y + ry * py) for px, py in corners]
        pen.line(points, fill=fill, width=round(0.028 * canvas[1]), joint="curve")
    else:
        pen.polygon([(x + rx * px, y + ry * py) for px, py in _POLYGONS[thing.form]], fill=fill)


def _make_star() -> list[tuple[float, float]]:
    radii = [1.08 if i % 2 == 0 else 0.5 for i in range(10)]
    turns = [math.pi * (i / 5 - 0.5) for i in range(10)]
    return [(r * math.cos(t), r * math.sin(t)) for r, t in zip(radii, turns, strict=True)]


def _make_heart() -> list[tuple[float, float]]:
    points = []
    for i in range(40):
        t = 2 * math.pi * i / 40
        x = math.sin(t) ** 3
        y = -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16
        points.append((x, y))
    return points


def _make_trend(heights: Sequence[float]) -> list[tuple[float, float]]:
    return [(-1 + i / 2, -high) for i, high in enumerate(heights)]


_POLYGONS = {
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": [(0.0, -1.0), (1.05, 0.85), (-1.05, 0.85)],
    "diamond": [(0.0, -1.1), (0.82, 0.0), (0.0, 1.1), (-0.82, 0.0)],
    "star": _make_star(),
    "heart": _make_heart(),
}
_TREND = {
    "rises": _make_trend((-0.9, -0.45, 0.0, 0.45, 0.9)),
    "falls": _make_trend((0.9, 0.45, 0.0, -0.45, -0.9)),
    "peaks": _make_trend((-0.9, 0.0, 0.9, 0.0, -0.9)),
    "dips": _make_trend((0.9, 0.0, -0.9, 0.0, 0.9)),
}
