"""What drawn images hold: scenes of coloured shapes and signs, and charts. A seed determines everything."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

# Relative frequencies: a few names are common and most are rare, as in real captions.
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
"""All forms that an object can have. The form of a chart's line is its trend."""
VOWELS, CONSONANTS = "aeu", "cfhjklmnprtwx"  # without those that look like a digit
GLYPHS = "abcdefghijklmnopqrstuvwxyz0123456789"
MAX_GLYPHS = 3
CELLS = 4  # each object has its own cell of a CELLS x CELLS grid, and is shifted a little inside it
SIZES = (176, 192, 208, 224)  # pixels; width and height are drawn from these
ADVANCE = 0.07  # distance from one glyph to the next, as a share of the image's width
MAX_OBJECTS = 6
DENSE_SIZES = (256, 272, 288, 304, 320)  # pixels of a dense scene's sides
DENSE_SCALE = 0.64  # of its objects and its text, beside those of other scenes
SHELF_CELLS = 6  # a shelf has SHELF_CELLS x SHELF_CELLS cells
FIELD_COLUMNS, FIELD_ROWS = 3, 8


@dataclass(frozen=True)
class Thing:
    """One drawn object. Centre and half extents are shares of the image's sides; y grows downwards.

    `scale` is the size of its text beside `ADVANCE`.
    """

    form: str
    color: str
    x: float
    y: float
    rx: float
    ry: float
    text: str = ""
    scale: float = 1.0

    @property
    def cell(self) -> str:
        """The cell of its centre: letter of the column, number of the row, such as "b3"."""
        return f"{'abcd'[int(CELLS * self.x)]}{int(CELLS * self.y) + 1}"


@dataclass(frozen=True)
class Scene:
    """The content of one image. `kind` is "scene", "crowd", "variety", a chart ("bars", "lines", "table"), or dense.

    Dense scenes hold more than there are tokens to keep: a "shelf" of 30 to 36 objects, or 24 "fields" of an object and
    the number beside it.

    `texture` is the seed of the background and of small variations in colour and line; `size` is (width, height).
    """

    kind: str
    things: tuple[Thing, ...]
    texture: int
    size: tuple[int, int]


def sample_scene(seed: int, index: int, kind: str = "scene") -> Scene:
    """Sample image number `index` of the stream `seed`. Two streams share no random numbers."""
    rng = random.Random(f"foveate {kind} {seed} {index}")
    sizes = DENSE_SIZES if kind in DENSE else SIZES
    size = (rng.choice(sizes), rng.choice(sizes))
    return Scene(kind, tuple(_SAMPLERS[kind](rng)), rng.randrange(2**31), size)


def _sample_names(rng: random.Random, weights: dict[str, int], count: int) -> list[str]:
    """Sample `count` distinct names without replacement, with the given weights."""
    return sorted(weights, key=lambda name: rng.random() ** (1 / weights[name]), reverse=True)[:count]


def _sample_objects(rng: random.Random) -> list[Thing]:
    return _scatter(rng, rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 6)), signs=0.25)


def _sample_crowd(rng: random.Random) -> list[Thing]:
    """Sample the objects of several ordinary images in one: more labelled patches for the vision encoder."""
    return _scatter(rng, rng.randint(9, CELLS * CELLS), signs=0.6)


def _sample_variety(rng: random.Random) -> list[Thing]:
    """Sample objects that share no colour and no shape, so that an answer cannot be guessed from another object."""
    things = _scatter(rng, rng.randint(3, MAX_OBJECTS), signs=0.15)
    colors, forms = rng.sample(list(COLORS), len(things)), rng.sample(list(SHAPES), len(things))
    return [
        replace(thing, color=color, form=thing.form if thing.form == SIGN else form)
        for thing, color, form in zip(things, colors, forms, strict=True)
    ]


def _scatter(rng: random.Random, count: int, signs: float) -> list[Thing]:
    """Place `count` objects in distinct cells; a share `signs` of them are signs."""
    # Some scenes have few forms and colours: objects of the same kind and near misses must be common.
    forms = _sample_names(rng, SHAPES, rng.randint(2, len(SHAPES)))
    colors = _sample_names(rng, POPULARITY, rng.randint(2, len(COLORS)))
    things = []
    for cell in rng.sample(range(CELLS * CELLS), count):
        color = rng.choices(colors, [POPULARITY[c] for c in colors])[0]
        column, row = cell % CELLS + 0.5, cell // CELLS + 0.5
        if rng.random() < signs:
            things.append(_make_sign(rng, color, column, row))
            continue
        radius = rng.uniform(0.095, 0.12)
        slack = 0.5 / CELLS - radius - 0.002
        x, y = column / CELLS + rng.uniform(-slack, slack), row / CELLS + rng.uniform(-slack, slack)
        things.append(Thing(rng.choices(forms, [SHAPES[f] for f in forms])[0], color, x, y, radius, radius))
    return things


def _make_sign(rng: random.Random, color: str, column: float, row: float) -> Thing:
    text = make_text(rng)
    rx, ry = len(text) * ADVANCE / 2 + 0.01, 0.068
    x = column / CELLS + rng.uniform(-1, 1) * max(0.0, 0.5 / CELLS - rx)
    return Thing(SIGN, color, x, row / CELLS + rng.uniform(-1, 1) * (0.5 / CELLS - ry), rx, ry, text)


def make_text(rng: random.Random) -> str:
    """Make a number of two or three digits or a made-up word of three letters, which cannot be guessed."""
    if rng.random() < 0.4:
        return str(rng.randint(10, 999))
    return rng.choice(CONSONANTS) + rng.choice(VOWELS) + rng.choice(CONSONANTS)


def _sample_bars(rng: random.Random) -> list[Thing]:
    count = rng.choice((4, 4, 5))
    steps = rng.sample(range(9), count)  # bars of one chart differ by at least about a ninth of the range
    step, left = 0.84 / count, 0.08
    things = []
    for i, (color, high) in enumerate(zip(_sample_names(rng, POPULARITY, count), steps, strict=True)):
        height = 0.14 + 0.068 * (high + rng.uniform(-0.15, 0.15))
        x = left + (i + 0.5) * step
        things.append(Thing("bar", color, x, 0.93 - height / 2, 0.36 * step, height / 2, str(high + 1)))
    return things


def _sample_lines(rng: random.Random) -> list[Thing]:
    count = rng.choice((2, 3, 3))
    band = 0.92 / count
    return [
        Thing(rng.choice(TRENDS), color, 0.5, 0.04 + (i + 0.5) * band, 0.4, min(0.15, 0.4 * band))
        for i, color in enumerate(_sample_names(rng, POPULARITY, count))
    ]


def _sample_table(rng: random.Random) -> list[Thing]:
    count = rng.choice((4, 4, 5))
    numbers = rng.sample(range(10, 100), count)
    step = 0.9 / count
    return [
        Thing("row", color, 0.5, 0.05 + (i + 0.5) * step, 0.3, 0.062, str(number))
        for i, (color, number) in enumerate(zip(_sample_names(rng, POPULARITY, count), numbers, strict=True))
    ]


def _sample_shelf(rng: random.Random) -> list[Thing]:
    """Sample a shelf: many objects of few kinds, a few that are the only ones of their form or colour, and signs.

    No two signs have one colour.
    """
    forms, colors = rng.sample(list(SHAPES), len(SHAPES)), rng.sample(list(POPULARITY), len(POPULARITY))
    common_forms, common_colors = forms[: rng.randint(3, 5)], colors[: rng.randint(4, 6)]
    rare = [(form, rng.choice(common_colors)) for form in forms[len(common_forms) :][: rng.randint(1, 2)]]
    rare += [(rng.choice(common_forms), color) for color in colors[len(common_colors) :][: rng.randint(1, 2)]]
    signs = rng.sample(common_colors, rng.randint(3, min(6, len(common_colors))))
    count = rng.randint(30, SHELF_CELLS**2)
    form_weights = [rng.randint(1, 6) for _ in common_forms]
    color_weights = [rng.randint(1, 6) for _ in common_colors]
    kinds = [*rare, *((SIGN, color) for color in signs)]
    kinds += [
        (rng.choices(common_forms, form_weights)[0], rng.choices(common_colors, color_weights)[0])
        for _ in range(count - len(kinds))
    ]
    things = []
    for cell, (form, color) in zip(rng.sample(range(SHELF_CELLS**2), count), kinds, strict=True):
        row, column = divmod(cell, SHELF_CELLS)
        text = make_text(rng) if form == SIGN else ""
        rx, ry = DENSE_SCALE * rng.uniform(0.095, 0.115), DENSE_SCALE * 0.068
        rx, ry = (DENSE_SCALE * (len(text) * ADVANCE / 2 + 0.01), ry) if text else (rx, rx)
        slack_x, slack_y = (max(0.0, 0.5 / SHELF_CELLS - side - 0.002) for side in (rx, ry))
        x = (column + 0.5) / SHELF_CELLS + rng.uniform(-slack_x, slack_x)
        y = (row + 0.5) / SHELF_CELLS + rng.uniform(-slack_y, slack_y)
        things.append(Thing(form, color, x, y, rx, ry, text, DENSE_SCALE))
    return things


def _sample_fields(rng: random.Random) -> list[Thing]:
    """Sample a sheet of fields: an object, no two of one form and colour, and a number of two digits right of it."""
    count = FIELD_COLUMNS * FIELD_ROWS
    kinds = [(form, color) for form in SHAPES for color in POPULARITY]
    numbers = rng.sample(range(10, 100), count)
    things = []
    for n, (form, color) in enumerate(rng.sample(kinds, count)):
        row, column = divmod(n, FIELD_COLUMNS)
        radius = DENSE_SCALE * 0.07
        x = (column + 0.5) / FIELD_COLUMNS - 0.085 + rng.uniform(-0.015, 0.015)
        y = (row + 0.5) / FIELD_ROWS + rng.uniform(-0.01, 0.01)
        things.append(Thing(form, color, x, y, radius, radius, str(numbers[n]), DENSE_SCALE))
    return things


_SAMPLERS: dict[str, Callable[[random.Random], list[Thing]]] = {
    "scene": _sample_objects,
    "crowd": _sample_crowd,
    "variety": _sample_variety,
    "bars": _sample_bars,
    "lines": _sample_lines,
    "table": _sample_table,
    "shelf": _sample_shelf,
    "fields": _sample_fields,
}
CHARTS = ("bars", "lines", "table")
DENSE = ("shelf", "fields")
PAGES = ("form", "sheet")  # sampled by `pages`
