"""Drawn pictures: scenes of coloured shapes and signs on a cluttered ground, and charts. All follows from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# The first of each are the most frequent, as the words of real captions are.
SHAPES = {"circle": 6, "square": 5, "star": 4, "triangle": 3, "heart": 3, "cross": 2, "diamond": 2}
POPULARITY = {"red": 5, "blue": 4, "green": 4, "yellow": 3, "white": 3, "purple": 2, "orange": 2, "black": 2}
COLORS = {
    "red": (214, 40, 40),
    "blue": (45, 90, 215),
    "green": (40, 160, 70),
    "yellow": (250, 220, 50),
    "white": (248, 248, 248),
    "purple": (140, 60, 175),
    "orange": (245, 135, 30),
    "black": (22, 22, 22),
}
SIGN = "sign"
TRENDS = ("rises", "falls", "peaks", "dips")
NOUNS = (*SHAPES, SIGN)
FORMS = (*NOUNS, "bar", "row", *TRENDS)
"""Everything that a patch can belong to. A line's form is what it does."""
VOWELS, CONSONANTS = "aeu", "cfhjklmnprtwx"  # none that is easily taken for a digit
GLYPHS = "abcdefghijklmnopqrstuvwxyz0123456789"
MAX_GLYPHS = 3
CELLS = 4  # objects stand in distinct cells of a CELLS x CELLS lattice, shifted a little
SIZES = (176, 192, 208, 224)  # pixels; either side of a picture
ADVANCE = 0.07  # from glyph to glyph, a share of the picture's width
GLYPH = 0.115  # a glyph's font size, a share of the picture's height
OVERSAMPLE = 2  # pictures are drawn larger and scaled down, which smooths the edges
MAX_OBJECTS = 6
PAPER = (236, 234, 228)


@dataclass(frozen=True)
class Thing:
    """One drawn object, by its `form`. Centre and half extents are shares of the picture's sides; y grows downwards."""

    form: str
    color: str
    x: float
    y: float
    rx: float
    ry: float
    text: str = ""

    @property
    def cell(self) -> str:
        """The cell of its centre: a column's letter and a row's number, "b3"."""
        return f"{'abcd'[int(CELLS * self.x)]}{int(CELLS * self.y) + 1}"


@dataclass(frozen=True)
class Scene:
    """Things on a ground: a "scene", a "crowd", a "variety", or a chart of "bars", "lines" or a "table".

    `texture` seeds what chance draws.
    """

    kind: str
    things: tuple[Thing, ...]
    texture: int
    size: tuple[int, int]


def sample_scene(seed: int, index: int, kind: str = "scene") -> Scene:
    """Picture number `index` of the stream that `seed` names; different seeds never share a picture's randomness."""
    rng = random.Random(f"foveate {kind} {seed} {index}")
    size = (rng.choice(SIZES), rng.choice(SIZES))
    return Scene(kind, tuple(_THINGS[kind](rng)), rng.randrange(2**31), size)


def weighted(rng: random.Random, weights: dict[str, int], count: int) -> list[str]:
    """`count` distinct names, frequent ones first chosen more often."""
    return sorted(weights, key=lambda name: rng.random() ** (1 / weights[name]), reverse=True)[:count]


def _objects(rng: random.Random) -> list[Thing]:
    return _strewn(rng, rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 6)), signs=0.25)


def _crowd(rng: random.Random) -> list[Thing]:
    """To learn seeing from: several ordinary pictures' worth of shapes and signs in one."""
    return _strewn(rng, rng.randint(9, CELLS * CELLS), signs=0.6)


def _variety(rng: random.Random) -> list[Thing]:
    """To learn looking things up from: no two have a colour or a shape in common, so that no guess does as well."""
    things = _strewn(rng, rng.randint(3, MAX_OBJECTS), signs=0.15)
    colors, forms = rng.sample(list(COLORS), len(things)), rng.sample(list(SHAPES), len(things))
    return [
        replace(thing, color=color, form=thing.form if thing.form == SIGN else form)
        for thing, color, form in zip(things, colors, forms, strict=True)
    ]


def _strewn(rng: random.Random, count: int, signs: float) -> list[Thing]:
    # A small palette now and then, so that counts above one and near misses are common.
    forms = weighted(rng, SHAPES, rng.randint(2, len(SHAPES)))
    colors = weighted(rng, POPULARITY, rng.randint(2, len(COLORS)))
    things = []
    for cell in rng.sample(range(CELLS * CELLS), count):
        color = rng.choices(colors, [POPULARITY[c] for c in colors])[0]
        column, row = cell % CELLS + 0.5, cell // CELLS + 0.5
        if rng.random() < signs:
            text = _word(rng)
            things.append(_plate(rng, SIGN, color, column, row, text))
            continue
        radius = rng.uniform(0.095, 0.12)
        slack = 0.5 / CELLS - radius - 0.002
        x, y = column / CELLS + rng.uniform(-slack, slack), row / CELLS + rng.uniform(-slack, slack)
        things.append(Thing(rng.choices(forms, [SHAPES[f] for f in forms])[0], color, x, y, radius, radius))
    return things


def _plate(rng: random.Random, form: str, color: str, column: float, row: float, text: str) -> Thing:
    rx, ry = len(text) * ADVANCE / 2 + 0.01, 0.068
    x = column / CELLS + rng.uniform(-1, 1) * max(0.0, 0.5 / CELLS - rx)
    return Thing(form, color, x, row / CELLS + rng.uniform(-1, 1) * (0.5 / CELLS - ry), rx, ry, text)


def _word(rng: random.Random) -> str:
    """A number of two or three digits, or a made-up word of three letters: nothing to know by heart."""
    if rng.random() < 0.4:
        return str(rng.randint(10, 999))
    return rng.choice(CONSONANTS) + rng.choice(VOWELS) + rng.choice(CONSONANTS)


def _bars(rng: random.Random) -> list[Thing]:
    count = rng.choice((4, 4, 5))
    steps = rng.sample(range(9), count)  # heights differ by a ninth of the range or more
    step, left = 0.84 / count, 0.08
    things = []
    for i, (color, high) in enumerate(zip(weighted(rng, POPULARITY, count), steps, strict=True)):
        height = 0.14 + 0.068 * (high + rng.uniform(-0.15, 0.15))
        x = left + (i + 0.5) * step
        things.append(Thing("bar", color, x, 0.93 - height / 2, 0.36 * step, height / 2, str(high + 1)))
    return things


def _lines(rng: random.Random) -> list[Thing]:
    count = rng.choice((2, 3, 3))
    band = 0.92 / count
    return [
        Thing(rng.choice(TRENDS), color, 0.5, 0.04 + (i + 0.5) * band, 0.4, min(0.15, 0.4 * band))
        for i, color in enumerate(weighted(rng, POPULARITY, count))
    ]


def _table(rng: random.Random) -> list[Thing]:
    count = rng.choice((4, 4, 5))
    numbers = rng.sample(range(10, 100), count)
    step = 0.9 / count
    return [
        Thing("row", color, 0.5, 0.05 + (i + 0.5) * step, 0.3, 0.062, str(number))
        for i, (color, number) in enumerate(zip(weighted(rng, POPULARITY, count), numbers, strict=True))
    ]


_THINGS = {"scene": _objects, "crowd": _crowd, "variety": _variety, "bars": _bars, "lines": _lines, "table": _table}
CHARTS = ("bars", "lines", "table")


# -- drawing -------------------------------------------------------------------------------------------------------


def draw_scene(scene: Scene) -> Image.Image:
    """The scene as an RGB picture of its size."""
    width, height = scene.size
    big = (width * OVERSAMPLE, height * OVERSAMPLE)
    ground = _paper(scene) if scene.kind in CHARTS else _ground(scene.texture, scene.size)
    canvas = ground.resize(big, Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas)
    for number, thing in enumerate(scene.things):
        rng = random.Random(scene.texture + number + 1)
        fill = tuple(min(255, max(0, c + rng.randint(-12, 12))) for c in COLORS[thing.color])
        outline(pen, thing, big, fill, rng)
        if thing.form in (SIGN, "row"):
            _write(pen, thing, big)
    return canvas.resize(scene.size, Image.Resampling.BOX)


def glyph_boxes(thing: Thing) -> list[tuple[float, float, float, float]]:
    """(left, top, right, bottom) of every glyph that is drawn on it, as shares of the picture's sides."""
    if thing.form not in (SIGN, "row"):
        return []
    middle = thing.x + (0.5 * thing.rx if thing.form == "row" else 0.0)
    left = middle - len(thing.text) * ADVANCE / 2
    return [
        (left + i * ADVANCE, thing.y - 0.05, left + (i + 1) * ADVANCE, thing.y + 0.05) for i in range(len(thing.text))
    ]


def _write(pen: ImageDraw.ImageDraw, thing: Thing, big: tuple[int, int]) -> None:
    dark = thing.form == "row" or thing.color in ("white", "yellow", "orange")
    font = _font(round(GLYPH * big[1]))
    for glyph, (x0, y0, x1, y1) in zip(thing.text.upper(), glyph_boxes(thing), strict=True):
        place = ((x0 + x1) / 2 * big[0], (y0 + y1) / 2 * big[1])
        pen.text(place, glyph, fill=(0, 0, 0) if dark else (255, 255, 255), font=font, anchor="mm", stroke_width=0.4)


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _paper(scene: Scene) -> Image.Image:
    """A chart's ground: paper, with faint rules."""
    rng = random.Random(scene.texture)
    width, height = scene.size
    sheet = Image.new("RGB", scene.size, tuple(c - rng.randint(0, 24) for c in PAPER))
    pen = ImageDraw.Draw(sheet)
    for i in range(1, rng.randint(4, 8)):
        y = i * height // 8
        pen.line((0, y, width, y), fill=(205, 205, 205))
    pen.line((0.05 * width, 0.93 * height, 0.95 * width, 0.93 * height), fill=(90, 90, 90))
    return sheet


def _ground(texture: int, size: tuple[int, int]) -> Image.Image:
    """A muted gradient with lines, blobs and noise on it."""
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


def outline(
    pen: ImageDraw.ImageDraw,
    thing: Thing,
    canvas: tuple[int, int],
    fill: int | tuple[int, ...],
    rng: random.Random | None = None,
) -> None:
    """Draw the filled form on a canvas of this (width, height); all shapes have about the same area.

    `rng` bends a line a little; without one (for labels) a line is straight, and as thick as its bends.
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
        bends = [(px, py + (rng.uniform(-0.12, 0.12) if rng else 0.0)) for px, py in _TREND[thing.form]]
        points = [(x + rx * px, y + ry * py) for px, py in bends]
        pen.line(points, fill=fill, width=round(0.028 * canvas[1]), joint="curve")
    else:
        pen.polygon([(x + rx * px, y + ry * py) for px, py in _POLYGONS[thing.form]], fill=fill)


def _star() -> list[tuple[float, float]]:
    radii = [1.08 if i % 2 == 0 else 0.5 for i in range(10)]
    turns = [math.pi * (i / 5 - 0.5) for i in range(10)]
    return [(r * math.cos(t), r * math.sin(t)) for r, t in zip(radii, turns, strict=True)]


def _heart() -> list[tuple[float, float]]:
    points = []
    for i in range(40):
        t = 2 * math.pi * i / 40
        x = math.sin(t) ** 3
        y = -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16
        points.append((x, y))
    return points


def _trend(heights: Sequence[float]) -> list[tuple[float, float]]:
    return [(-1 + i / 2, -high) for i, high in enumerate(heights)]


_POLYGONS = {
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": [(0.0, -1.0), (1.05, 0.85), (-1.05, 0.85)],
    "diamond": [(0.0, -1.1), (0.82, 0.0), (0.0, 1.1), (-0.82, 0.0)],
    "star": _star(),
    "heart": _heart(),
}
_TREND = {
    "rises": _trend((-0.9, -0.45, 0.0, 0.45, 0.9)),
    "falls": _trend((0.9, 0.45, 0.0, -0.45, -0.9)),
    "peaks": _trend((-0.9, 0.0, 0.9, 0.0, -0.9)),
    "dips": _trend((0.9, 0.0, -0.9, 0.0, 0.9)),
}
