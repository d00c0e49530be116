"""Diagrams that matplotlib draws: bars, lines and pies with titles, names and values. A seed determines everything."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image

from foveate.world.fonts import import_matplotlib
from foveate.world.plain_questions import Question
from foveate.world.scenes import COLORS
from foveate.world.words import CITIES, FIRST_NAMES, ITEMS, MONTHS, TOPICS

DIAGRAMS = ("bars", "columns", "lines", "pie")
SIDES = ((336, 336), (336, 336), (420, 420), (504, 336), (672, 504))  # pixels
INKS = tuple(name for name in COLORS if name not in ("white", "yellow"))
SHORT = 5  # letters of a column's name, at most
GAP = 6  # between two values, at least


@dataclass(frozen=True)
class Diagram:
    """What a diagram shows.

    Args:
        kind: "columns" stand, "bars" lie, "lines" have a legend, a "pie" has parts.
        size: (width, height) in pixels.
        title: Above the diagram.
        names: Of the columns, bars or parts, or of the steps of the lines.
        series: The values of each line; one series for the others.
        inks: The colours of the columns, bars, parts or lines.
        labels: The names of the lines in the legend.
        has_values: Whether the values are written beside the columns, bars and parts.
    """

    kind: str
    size: tuple[int, int]
    title: str
    names: tuple[str, ...]
    series: tuple[tuple[int, ...], ...]
    inks: tuple[str, ...]
    labels: tuple[str, ...] = ()
    has_values: bool = True


def sample_diagram(seed: int, index: int) -> Diagram:
    """Sample diagram number `index` of the stream `seed`."""
    rng = random.Random(f"foveate diagram {seed} {index}")
    kind, size = rng.choice(DIAGRAMS), rng.choice(SIDES)
    title = f"{rng.choice(TOPICS)} {rng.randint(1990, 2029)}"
    names: Sequence[str] = rng.choice((CITIES, FIRST_NAMES, ITEMS, MONTHS))
    if kind == "lines":
        count = rng.randint(2, 3)
        series = tuple(_sample_line(rng) for _ in range(count))
        labels = tuple(rng.sample(CITIES, count))
        return Diagram(kind, size, title, MONTHS[:5], series, tuple(rng.sample(INKS, count)), labels)
    if kind == "columns":  # there is little room below each
        names = [name for name in names if len(name) <= SHORT]
    count = rng.randint(3, 5 if kind == "bars" else 4)
    values = tuple(GAP * step + rng.randint(0, GAP // 2) for step in rng.sample(range(1, 16), count))
    inks = tuple(rng.sample(INKS, count)) if kind == "pie" or rng.random() < 0.6 else (rng.choice(INKS),) * count
    return Diagram(kind, size, title, tuple(rng.sample(names, count)), (values,), inks, has_values=rng.random() < 0.7)


def _sample_line(rng: random.Random) -> tuple[int, ...]:
    """Five values that rise or fall."""
    start, end = rng.choice(((10, 80), (80, 10), (30, 95), (95, 30), (5, 50), (50, 5)))
    return tuple(round(start + (end - start) * i / 4 + rng.uniform(-6, 6)) for i in range(5))


def list_diagram_questions(diagram: Diagram) -> list[Question]:
    """Every question that the diagram answers."""
    facts = [("title", "what is the title of the chart?", diagram.title)]
    if diagram.kind == "lines":
        for label, ink, values in zip(diagram.labels, diagram.inks, diagram.series, strict=True):
            facts.append(("color", f"what color is the line of {label}?", ink))
            facts.append(("label", f"which city has the {ink} line?", label))
            facts.append(
                ("trend", f"does the line of {label} rise or fall?", "rise" if values[-1] > values[0] else "fall")
            )
        return [Question("diagram", *fact) for fact in facts]
    (values,), names = diagram.series, diagram.names
    noun = "part" if diagram.kind == "pie" else "bar"
    facts += [
        ("most", f"which {noun} is the largest?", names[values.index(max(values))]),
        ("least", f"which {noun} is the smallest?", names[values.index(min(values))]),
    ]
    for name, value, ink in zip(names, values, diagram.inks, strict=True):
        if diagram.has_values:
            facts.append(("value", f"what is the value of {name}?", str(value)))
        if len(set(diagram.inks)) > 1:
            facts.append(("color", f"what color is the {noun} of {name}?", ink))
            facts.append(("label", f"what is the name of the {ink} {noun}?", name))
    return [Question("diagram", *fact) for fact in facts]


def draw_diagram(diagram: Diagram) -> Image.Image:
    """Draw the diagram as an RGB image of its size."""
    width, height = diagram.size
    letters = min(width, height) // 24  # points, at 100 pixels an inch
    sheet: Any = import_matplotlib("matplotlib.figure").Figure((width / 100, height / 100), dpi=100, layout="tight")
    axes = sheet.add_subplot()
    inks = [tuple(part / 255 for part in COLORS[ink]) for ink in diagram.inks]
    _DRAW[diagram.kind](axes, diagram, inks, letters)
    axes.set_title(diagram.title, fontsize=letters + 1)
    axes.tick_params(labelsize=letters)
    buffer = BytesIO()
    sheet.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def _draw_bars(axes: Any, diagram: Diagram, inks: list[Any], letters: int) -> None:
    lies = diagram.kind == "bars"
    bars = (axes.barh if lies else axes.bar)(diagram.names, diagram.series[0], color=inks)
    if diagram.has_values:
        axes.bar_label(bars, fontsize=letters, padding=2)
        (axes.set_xticks if lies else axes.set_yticks)([])
    axes.margins(**{"x" if lies else "y": 0.2})


def _draw_lines(axes: Any, diagram: Diagram, inks: list[Any], letters: int) -> None:
    for label, ink, values in zip(diagram.labels, inks, diagram.series, strict=True):
        axes.plot(diagram.names, values, color=ink, label=label, linewidth=3)
    axes.margins(y=0.35)
    axes.legend(fontsize=letters, loc="best")


def _draw_pie(axes: Any, diagram: Diagram, inks: list[Any], letters: int) -> None:
    values = diagram.series[0]
    texts = [
        f"{name} {value}" if diagram.has_values else name for name, value in zip(diagram.names, values, strict=True)
    ]
    axes.pie(values, labels=texts, colors=inks, textprops={"fontsize": letters}, radius=0.9)


_DRAW = {"bars": _draw_bars, "columns": _draw_bars, "lines": _draw_lines, "pie": _draw_pie}
