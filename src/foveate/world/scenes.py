"""Drawn scenes: coloured shapes, some with a letter on them, on a cluttered ground. Everything follows from a seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "diamond")
COLORS = {
    "red": (214, 40, 40),
    "orange": (245, 135, 30),
    "yellow": (250, 220, 50),
    "green": (40, 160, 70),
    "blue": (45, 90, 215),
    "purple": (140, 60, 175),
    "white": (248, 248, 248),
    "black": (22, 22, 22),
}
LETTERS = "BCDEFGHJKLMNPRSTUVXYZ"
CELLS = 4  # objects stand in distinct cells of a CELLS x CELLS lattice, shifted a little
SIDE = 128  # pixels; the canvas that the model sees
OVERSAMPLE = 2  # scenes are drawn larger and scaled down, which smooths the edges
MAX_OBJECTS = 6


@dataclass(frozen=True)
class Thing:
    """One drawn object. `x`, `y` (centre) and `radius` are shares of the picture's side; y grows downwards."""

    shape: str
    color: str
    letter: str | None
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """Objects on a ground. `texture` seeds the clutter behind them."""

    things: tuple[Thing, ...]
    texture: int


def sample_scene(seed: int, index: int) -> Scene:
    """Scene number `index` of the stream that `seed` names; different seeds never share a scene's randomness."""
    rng = random.Random(f"foveate scene {seed} {index}")
    count = rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 6))
    # A small palette now and then, so that counts above one and near misses are common.
    shapes = rng.sample(SHAPES, rng.randint(2, len(SHAPES)))
    colors = rng.sample(tuple(COLORS), rng.randint(2, len(COLORS)))
    cells = rng.sample(range(CELLS * CELLS), count)
    things = []
    for cell in cells:
        radius = rng.uniform(0.095, 0.12)
        slack = 0.5 / CELLS - radius - 0.002
        x, y = ((c + 0.5) / CELLS + rng.uniform(-slack, slack) for c in (cell % CELLS, cell // CELLS))
        letter = rng.choice(LETTERS) if rng.random() < 0.6 else None
        things.append(Thing(rng.choice(shapes), rng.choice(colors), letter, x, y, radius))
    return Scene(tuple(things), rng.randrange(2**31))


def draw_scene(scene: Scene, side: int = SIDE) -> Image.Image:
    """The scene as an RGB picture of `side` x `side` pixels."""
    big = side * OVERSAMPLE
    canvas = _ground(scene.texture, side).resize((big, big), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas)
    for number, thing in enumerate(scene.things):
        rng = random.Random(scene.texture + number + 1)
        fill = tuple(min(255, max(0, c + rng.randint(-12, 12))) for c in COLORS[thing.color])
        outline(pen, thing, big, fill)
        if thing.letter is not None:
            dark = thing.color in ("white", "yellow", "orange")
            size = 1.15 * thing.radius * big
            middle = thing.y + (0.22 * thing.radius if thing.shape == "triangle" else 0.0)
            pen.text(
                (thing.x * big, middle * big), thing.letter, fill=(0, 0, 0) if dark else (255, 255, 255),
                font=_font(round(size)), anchor="mm", stroke_width=size / 28,
            )  # fmt: skip
    return canvas.resize((side, side), Image.Resampling.BOX)


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _ground(texture: int, side: int) -> Image.Image:
    """A muted gradient with lines, blobs and noise on it."""
    rng = np.random.default_rng(texture)
    corners = rng.uniform(85, 175, (2, 2, 1)) + rng.uniform(-14, 14, (2, 2, 3))
    soft = Image.fromarray(corners.astype(np.uint8)).resize((side, side), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(soft)
    for _ in range(rng.integers(6, 16)):
        tone = tuple(int(v) for v in rng.uniform(80, 180) + rng.uniform(-16, 16, 3))
        x0, y0, x1, y1 = rng.uniform(0, side, 4).tolist()
        if rng.random() < 0.6:
            pen.line((x0, y0, x1, y1), fill=tone, width=int(rng.integers(1, 5)))
        else:
            r = rng.uniform(0.01, 0.035) * side
            pen.ellipse((x0 - r, y0 - r, x0 + r, y0 + r), fill=tone)
    noise = rng.normal(0, 8, (side, side, 1))
    return Image.fromarray((np.asarray(soft, np.float32) + noise).clip(0, 255).astype(np.uint8))


def outline(pen: ImageDraw.ImageDraw, thing: Thing, side: int, fill: int | tuple[int, ...]) -> None:
    """Draw the filled shape on a canvas of `side` x `side` pixels; all shapes have about the same area."""
    x, y, r = thing.x * side, thing.y * side, thing.radius * side
    if thing.shape == "circle":
        pen.ellipse((x - 0.9 * r, y - 0.9 * r, x + 0.9 * r, y + 0.9 * r), fill=fill)
    elif thing.shape == "cross":
        pen.rectangle((x - r, y - 0.36 * r, x + r, y + 0.36 * r), fill=fill)
        pen.rectangle((x - 0.36 * r, y - r, x + 0.36 * r, y + r), fill=fill)
    else:
        pen.polygon([(x + r * px, y + r * py) for px, py in _POLYGONS[thing.shape]], fill=fill)


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


_POLYGONS = {
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": [(0.0, -1.0), (1.05, 0.85), (-1.05, 0.85)],
    "diamond": [(0.0, -1.1), (0.82, 0.0), (0.0, 1.1), (-0.82, 0.0)],
    "star": _star(),
    "heart": _heart(),
}
