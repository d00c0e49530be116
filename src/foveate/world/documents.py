"""Documents in real fonts: receipts, tables, records, and windows of programs. A seed determines everything."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from PIL import Image, ImageDraw

from foveate.world.fonts import FONTS, load_font
from foveate.world.plain_questions import Question
from foveate.world.scenes import COLORS
from foveate.world.words import (
    BUTTONS,
    CITIES,
    FIRST_NAMES,
    ITEMS,
    OPTIONS,
    SHOPS,
    TITLES,
    make_code,
    make_date,
    make_name,
    make_phone,
    make_price,
)

ENTRIES = (2, 3, 3, 4, 4, 5, 6, 8, 10, 14, 20)  # of a document; a window has at most eight
FONT_SIZES = (22, 32)  # pixels, the smallest and the largest
SMALL = 460  # pixels; a document that fits into a square of this size is square
DARK, LIGHT, LINE = (20, 20, 24), (250, 250, 250), (120, 120, 126)
GROUNDS = ((255, 255, 255), (250, 247, 238), (238, 243, 250), (243, 243, 243))
BRIGHT = ("white", "yellow", "orange")  # colours that dark text is written on
COLUMNS: dict[str, Callable[[random.Random], str]] = {
    "Age": lambda rng: str(rng.randint(18, 90)),
    "Score": lambda rng: str(rng.randint(1, 99)),
    "Room": lambda rng: str(rng.randint(100, 499)),
    "Year": lambda rng: str(rng.randint(1950, 2025)),
    "Price": make_price,
    "Code": make_code,
}
LABELS = {
    **COLUMNS,
    "Name": make_name,
    "City": lambda rng: rng.choice(CITIES),
    "Phone": make_phone,
    "Date": make_date,
}


@dataclass(frozen=True)
class Cell:
    """One text of a row. `frame` is what is drawn around or before it: "bar", "box", "ticked", "field" or "button"."""

    text: str
    frame: str = ""
    color: str = ""
    right: bool = False


@dataclass(frozen=True)
class TextLine:
    """A text whose left top corner is at (x, y) pixels."""

    text: str
    x: float
    y: float
    font: str
    size: int
    color: tuple[int, int, int] = DARK

    def locate_glyphs(self) -> list[tuple[float, float, float, float]]:
        """(left, top, right, bottom) of every glyph, in pixels."""
        font = load_font(self.font, self.size)
        ends = [self.x + font.getlength(self.text[:i]) for i in range(len(self.text) + 1)]
        low = self.y + 1.2 * self.size
        return [(left, self.y, right, low) for left, right in pairwise(ends)]


@dataclass(frozen=True)
class Document:
    """What a document shows, and every question that it answers.

    `size` is (width, height) in pixels; `frames` are (kind, (left, top, right, bottom), colour).
    """

    kind: str
    size: tuple[int, int]
    ground: tuple[int, int, int]
    lines: tuple[TextLine, ...]
    frames: tuple[tuple[str, tuple[float, float, float, float], str], ...]
    questions: tuple[Question, ...]


def sample_document(seed: int, index: int, kind: str) -> Document:
    """Sample document number `index` of the stream `seed`; `kind` is one of `DOCUMENTS`."""
    rng = random.Random(f"foveate document {kind} {seed} {index}")
    draft = Draft(kind)
    DOCUMENTS[kind](draft, rng)
    return draft.lay_out(rng)


@dataclass
class Draft:
    """The rows of a document and its questions, before they have a place."""

    kind: str
    rows: list[list[Cell]] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    def add(self, *cells: Cell | str) -> None:
        """Add a row."""
        self.rows.append([cell if isinstance(cell, Cell) else Cell(cell) for cell in cells])

    def ask(self, variant: str, text: str, answer: str) -> None:
        """Add a question."""
        self.questions.append(Question(self.kind, variant, text, answer))

    def lay_out(self, rng: random.Random) -> Document:
        """Give every text its place: the columns are as wide as their widest text, and rows of one text span all."""
        size, face = rng.randint(*FONT_SIZES), rng.choice(FONTS)
        font = load_font(face, size)
        pad, pitch, gap = round(0.5 * size), round(size * rng.uniform(1.55, 1.9)), round(size * rng.uniform(0.9, 1.6))
        widths = [[font.getlength(cell.text) + (2 * pad if cell.frame else 0) for cell in row] for row in self.rows]
        columns = max(len(row) for row in self.rows)
        of_column = [max((w[i] for w in widths if len(w) > max(i, 1)), default=0.0) for i in range(columns)]
        starts = [pad + sum(of_column[:i]) + gap * i for i in range(columns)]
        wide = pad + max([starts[-1] + of_column[-1], *(pad + own[0] for own in widths if len(own) == 1)])
        width, height = round(wide), pitch * len(self.rows) + 2 * pad
        if max(width, height) <= SMALL:
            width = height = max(width, height)
        lines, frames = [], []
        for number, (row, own) in enumerate(zip(self.rows, widths, strict=True)):
            top = pad + number * pitch
            for cell, start, column, need in zip(row, starts, of_column, own, strict=False):
                x = start + (column - need if cell.right else 0)
                if cell.frame:
                    right = width - 1 if cell.frame == "bar" else x + need
                    frames.append(
                        (cell.frame, (0 if cell.frame == "bar" else x, top, right, top + 1.3 * size), cell.color)
                    )
                    x += 1.7 * pad if cell.frame in ("box", "ticked") else pad
                ink = DARK if cell.color in ("", *BRIGHT) else LIGHT
                lines.append(TextLine(cell.text, x, top + 0.02 * size, face, size, ink))
        return Document(
            self.kind, (width, height), rng.choice(GROUNDS), tuple(lines), tuple(frames), tuple(self.questions)
        )


def _write_receipt(draft: Draft, rng: random.Random) -> None:
    """A shop, a date, what was bought with prices, and the total."""
    shop, date = rng.choice(SHOPS), make_date(rng)
    draft.add(shop)
    draft.add(date)
    draft.ask("shop", "which shop is this receipt from?", shop)
    draft.ask("date", "what is the date?", date)
    cents = 0
    for item in rng.sample(ITEMS, rng.choice(ENTRIES)):
        price = make_price(rng)
        cents += round(100 * float(price))
        draft.add(item, Cell(price, right=True))
        draft.ask("price", f"what is the price of {item.lower()}?", price)
    total = f"{cents // 100}.{cents % 100:02}"
    draft.add("Total", Cell(total, right=True))
    draft.ask("total", "what is the total?", total)


def _write_table(draft: Draft, rng: random.Random) -> None:
    """Names, and two or three values of each."""
    columns = rng.sample(list(COLUMNS), rng.choice((2, 2, 3)))
    draft.add("Name", *(Cell(column, right=True) for column in columns))
    for name in rng.sample(FIRST_NAMES, rng.choice(ENTRIES)):
        values = [COLUMNS[column](rng) for column in columns]
        draft.add(name, *(Cell(value, right=True) for value in values))
        for column, value in zip(columns, values, strict=True):
            draft.ask(column.lower(), f"what is the {column.lower()} of {name}?", value)


def _write_record(draft: Draft, rng: random.Random) -> None:
    """Labels with a value each."""
    title = rng.choice(TITLES)
    draft.add(title)
    draft.ask("title", "what is the title?", title)
    for label in rng.sample(list(LABELS), min(len(LABELS), rng.choice(ENTRIES))):
        value = LABELS[label](rng)
        draft.add(f"{label}:", value)
        draft.ask(label.lower(), f"what is the {label.lower()}?", value)


def _write_window(draft: Draft, rng: random.Random) -> None:
    """A title bar, boxes to tick, fields and buttons."""
    title = rng.choice(TITLES)
    draft.add(Cell(title, "bar", rng.choice(("blue", "black", "purple", "green"))))
    draft.ask("title", "what is the title of the window?", title)
    options, labels = iter(rng.sample(OPTIONS, len(OPTIONS))), iter(rng.sample(list(LABELS), len(LABELS)))
    for _ in range(min(rng.choice(ENTRIES), 8)):
        if rng.random() < 0.6:
            option, ticked = next(options), rng.random() < 0.5
            draft.add(Cell(option, "ticked" if ticked else "box"))
            draft.ask("ticked", f"is {option} ticked?", "yes" if ticked else "no")
        else:
            label = next(labels)
            value = LABELS[label](rng)
            draft.add(label, Cell(value, "field"))
            draft.ask("field", f"what is in the {label.lower()} field?", value)
    names, colors = rng.sample(BUTTONS, 2), rng.sample(list(COLORS), 2)
    draft.add(*(Cell(name, "button", color) for name, color in zip(names, colors, strict=True)))
    for name, color in zip(names, colors, strict=True):
        draft.ask("color", f"what color is the {name} button?", color)
        draft.ask("button", f"what does the {color} button say?", name)


DOCUMENTS = {"receipt": _write_receipt, "table": _write_table, "record": _write_record, "window": _write_window}


def draw_document(document: Document) -> Image.Image:
    """Draw the document as an RGB image of its size."""
    image = Image.new("RGB", document.size, document.ground)
    pen = ImageDraw.Draw(image)
    for kind, (left, top, right, bottom), color in document.frames:
        if kind in ("bar", "button"):
            pen.rounded_rectangle((left, top, right, bottom), 0 if kind == "bar" else 5, COLORS[color], LINE)
        elif kind == "field":
            pen.rectangle((left, top, right, bottom), LIGHT, LINE, 2)
        else:
            _draw_box(pen, left, top, bottom, ticked=kind == "ticked")
    for line in document.lines:
        pen.text((line.x, line.y), line.text, line.color, load_font(line.font, line.size), anchor="la")
    return image


def _draw_box(pen: ImageDraw.ImageDraw, left: float, top: float, bottom: float, ticked: bool) -> None:
    """A square to tick, before its text."""
    side = 0.45 * (bottom - top)
    top += 0.25 * (bottom - top)
    pen.rectangle((left, top, left + side, top + side), LIGHT, DARK, 2)
    if ticked:
        pen.line((left + 3, top + 3, left + side - 3, top + side - 3), DARK, 3)
        pen.line((left + 3, top + side - 3, left + side - 3, top + 3), DARK, 3)


def sample_fact(questions: Sequence[Question], rng: random.Random) -> Question:
    """One of the questions: first what kind of thing is asked for, then which."""
    variant = rng.choice(sorted({question.variant for question in questions}))
    return rng.choice([question for question in questions if question.variant == variant])
