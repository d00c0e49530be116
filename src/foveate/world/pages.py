"""What large pages hold: forms of many fields, and sheets of many objects and signs. A seed determines everything."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from foveate.world.plain_questions import (
    Question,
    make_attribute,
    make_count,
    make_existence,
    make_reading,
    name_objects,
    with_article,
)
from foveate.world.questions import make_lookup
from foveate.world.scenes import ADVANCE, POPULARITY, SHAPES, SIGN, Scene, Thing, make_text

CELLS_OF_SIDE = {672: 4, 896: 6, 1120: 8, 1344: 10, 2048: 12}
"""Cells along each side of a page of so many pixels. Tiles of 336 pixels, as Aya Vision's processor cuts up to 36 of
them, have 2 x 2 cells each, so that no object lies in two tiles."""
SIDES = tuple(CELLS_OF_SIDE)
MOST = 48  # objects on one page
FILLED = 0.75  # of the cells, at most
PAGE_TASKS = ("form", "sheet", "tally")


def sample_page(seed: int, index: int, kind: str, side: int) -> Scene:
    """Sample page number `index` of the stream `seed`, `side` pixels wide and high; `kind` is "form" or "sheet"."""
    rng = random.Random(f"foveate page {kind} {side} {seed} {index}")
    grid = PageGrid(CELLS_OF_SIDE[side])
    things = _sample_form(rng, grid) if kind == "form" else _sample_sheet(rng, grid)
    return Scene(kind, tuple(things), rng.randrange(2**31), (side, side))


@dataclass(frozen=True)
class PageGrid:
    """The cells of a page. Four of them, two by two, are as large as a whole ordinary scene."""

    cells: int

    @property
    def scale(self) -> float:
        """Of objects and texts, beside those of an ordinary scene."""
        return 2 / self.cells

    @property
    def most(self) -> int:
        """The largest number of objects."""
        return min(MOST, int(FILLED * self.cells**2))

    def center(self, cell: int) -> tuple[float, float]:
        """The middle of a cell, as shares of the page's sides."""
        row, column = divmod(cell, self.cells)
        return (column + 0.5) / self.cells, (row + 0.5) / self.cells

    def place(
        self, rng: random.Random, cell: int, form: str, color: str, radii: tuple[float, float], text: str = ""
    ) -> Thing:
        """An object somewhere in its cell. Its half extents `radii` are shares of an ordinary scene's sides."""
        x, y = self.center(cell)
        rx, ry = (self.scale * radius for radius in radii)
        half = 0.5 / self.cells
        x += rng.uniform(-1, 1) * max(0.0, 0.9 * half - rx)
        y += rng.uniform(-1, 1) * max(0.0, 0.9 * half - ry)
        return Thing(form, color, x, y, rx, ry, text, self.scale)


def _sample_form(rng: random.Random, grid: PageGrid) -> list[Thing]:
    """Sample the fields of a form: an object, no two of one form and colour, and a number of two digits right of it."""
    count = rng.randint(2 * grid.most // 3, grid.most)
    kinds = rng.sample([(form, color) for form in SHAPES for color in POPULARITY], count)
    numbers = rng.sample(range(10, 100), count)
    things = []
    for cell, (form, color), number in zip(rng.sample(range(grid.cells**2), count), kinds, numbers, strict=True):
        x, y = grid.center(cell)
        radius = 0.07 * grid.scale
        x -= grid.scale * (0.09 - rng.uniform(-0.02, 0.02))
        y += grid.scale * rng.uniform(-0.1, 0.1)
        things.append(Thing(form, color, x, y, radius, radius, str(number), grid.scale))
    return things


def _sample_sheet(rng: random.Random, grid: PageGrid) -> list[Thing]:
    """Sample a sheet: many objects of a few common kinds, a few of rare ones, and signs, no two of one colour."""
    count = rng.randint(2 * grid.most // 3, grid.most)
    forms, colors = rng.sample(list(SHAPES), len(SHAPES)), rng.sample(list(POPULARITY), len(POPULARITY))
    common_forms, common_colors = forms[: rng.randint(2, 3)], colors[: rng.randint(3, 4)]
    kinds = [(SIGN, color) for color in rng.sample(list(POPULARITY), rng.randint(2, 5))]
    for form in forms[len(common_forms) : -1]:  # the last is nowhere on the page
        kinds += [(form, rng.choice(common_colors)) for _ in range(rng.choice((1, 1, 2, 3, 4)))]
    for color in colors[len(common_colors) : -1]:
        kinds += [(rng.choice(common_forms), color) for _ in range(rng.choice((1, 1, 2, 3)))]
    rng.shuffle(kinds)
    kinds = kinds[: 3 * count // 4]
    kinds += [(rng.choice(common_forms), rng.choice(common_colors)) for _ in range(count - len(kinds))]
    things = []
    for cell, (form, color) in zip(rng.sample(range(grid.cells**2), count), kinds, strict=True):
        text = make_text(rng) if form == SIGN else ""
        radius = rng.uniform(0.095, 0.12)
        radii = (len(text) * ADVANCE / 2 + 0.01, 0.068) if text else (radius, radius)
        things.append(grid.place(rng, cell, form, color, radii, text))
    return things


def make_page_question(scene: Scene, task: str, rng: random.Random) -> Question | None:
    """Make a question of the task about the page; None if the page allows none.

    "form" asks for the number of one field; "sheet" for one object or sign: whether it is there, its colour, its form
    or its text; "tally" for how many objects there are of a form or a colour, which needs the whole page.
    """
    if (scene.kind == "form") != (task == "form"):
        return None
    makers: dict[str, Callable[[Scene, random.Random], Question | None]] = {
        "form": make_lookup,
        "sheet": _make_search,
        "tally": make_count,
    }
    question = makers[task](scene, rng)
    return question and replace(question, task=task)


def _make_search(scene: Scene, rng: random.Random) -> Question | None:
    makers = {"existence": make_existence, "attribute": make_attribute, "reading": make_reading}
    variant = rng.choice(tuple(makers))
    if variant == "existence" and rng.random() < 0.5:  # of one object, as the others, not of one of the common kinds
        named = [thing for thing, name in name_objects(scene) if name == f"{thing.color} {thing.form}"]
        if named:
            thing = rng.choice(named)
            return Question("sheet", variant, f"is there {with_article(thing.color)} {thing.form}?", "yes", (thing,))
    question = makers[variant](scene, rng)
    return question and replace(question, variant=variant)
