"""Drawn pages, screens, charts and clips for `blanks.py`; a seed determines everything."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 1008
MARGIN = 72
WORDS = [
    "account", "address", "amount", "approval", "balance", "before", "between", "branch", "budget", "building",
    "carrier", "change", "charge", "client", "contract", "copy", "country", "customer", "date", "delivery",
    "department", "deposit", "detail", "discount", "due", "each", "entry", "first", "freight", "goods", "handling",
    "invoice", "item", "labour", "late", "list", "material", "model", "month", "net", "number", "office", "order",
    "other", "parcel", "payment", "period", "person", "piece", "place", "price", "quarter", "receipt", "record",
    "reference", "region", "report", "return", "sale", "section", "service", "ship", "signature", "status", "stock",
    "store", "sum", "supply", "tax", "term", "total", "transfer", "unit", "value", "vendor", "volume", "weight",
    "year",
]  # fmt: skip


def draw_text(seed: int) -> Image.Image:
    """A page of text: a title and paragraphs."""
    rng, page = random.Random(f"text {seed}"), Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN), " ".join(rng.sample(WORDS, 4)).title(), fill="black", font=_font(30))
    top = MARGIN + 64
    while top < SIDE - MARGIN - 60:
        for line in range(rng.randint(3, 7)):
            if top < SIDE - MARGIN - 20:
                width = SIDE - 2 * MARGIN if line else SIDE - 3 * MARGIN
                _write_line(pen, rng, (SIDE - MARGIN - width, top), width, 16)
            top += 24
        top += 20
    return page


def draw_form(seed: int) -> Image.Image:
    """A form: labels, boxes, a few of them filled in, and check marks."""
    rng, page = random.Random(f"form {seed}"), Image.new("RGB", (SIDE, SIDE), (250, 249, 245))
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, 40), "Form " + str(rng.randint(100, 999)), fill="black", font=_font(34))
    for row in range(11):
        top = 120 + row * 76
        for left, right in ((MARGIN, SIDE // 2 - 20), (SIDE // 2 + 20, SIDE - MARGIN)):
            pen.text((left, top), rng.choice(WORDS).title(), fill=(60, 60, 60), font=_font(15))
            pen.rectangle((left, top + 22, right, top + 54), outline=(120, 120, 120))
            if rng.random() < 0.4:
                pen.text((left + 10, top + 28), str(rng.randint(10, 10**6)), fill=(20, 20, 120), font=_font(18))
    return page


def draw_table(seed: int) -> Image.Image:
    """A ruled table of numbers, many of its cells alike."""
    rng, page = random.Random(f"table {seed}"), Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(page)
    for row in range(25):
        top = 54 + row * 36
        fill = (225, 232, 242) if row == 0 else "white"
        for column in range(6):
            left = 54 + column * 150
            pen.rectangle((left, top, left + 150, top + 36), outline=(170, 170, 170), fill=fill)
            text = rng.choice(WORDS) if row * column == 0 else rng.choice(("0", "0", "-", str(rng.randint(1, 9999))))
            pen.text((left + 10, top + 9), text, fill="black", font=_font(16))
    return page


def draw_chart(seed: int) -> Image.Image:
    """A bar chart above a line chart, by matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rng = np.random.default_rng(seed)
    figure, (bars, lines) = plt.subplots(2, figsize=(SIDE / 100, SIDE / 100), dpi=100)
    bars.bar([f"{word[:6]}" for word in rng.choice(WORDS, 8, replace=False)], rng.uniform(1, 10, 8), color="tab:blue")
    bars.set_title("Sales by quarter")
    for name in rng.choice(WORDS, 3, replace=False):
        lines.plot(np.cumsum(rng.normal(0, 1, 40)), label=str(name))
    lines.legend()
    lines.grid(visible=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return Image.open(buffer).convert("RGB")


def draw_screen(seed: int) -> Image.Image:
    """A screen: a window with a shaded title bar, a list, cards and buttons."""
    rng, page = random.Random(f"screen {seed}"), Image.new("RGB", (SIDE, SIDE), (243, 244, 246))
    pen = ImageDraw.Draw(page)
    for line in range(48):
        pen.line((0, line, SIDE, line), fill=(40 + line // 3, 60 + line // 3, 96 + line // 3))
    pen.text((20, 14), " ".join(rng.sample(WORDS, 3)), fill="white", font=_font(18))
    pen.rectangle((0, 48, 240, SIDE), fill="white")
    for row in range(20):
        top = 70 + row * 44
        pen.rectangle((16, top + 2, 32, top + 18), fill=(rng.randint(60, 200), 120, 200))
        pen.text((44, top), " ".join(rng.sample(WORDS, 2)), fill=(40, 40, 40), font=_font(15))
    for card in range(4):
        left, top = 272 + card % 2 * 368, 84 + card // 2 * 440
        pen.rounded_rectangle((left, top, left + 336, top + 400), 12, fill="white", outline=(210, 214, 220))
        pen.text((left + 20, top + 20), rng.choice(WORDS).title(), fill="black", font=_font(22))
        for line in range(rng.randint(2, 6)):
            _write_line(pen, rng, (left + 20, top + 70 + line * 26), 290, 15)
        pen.rounded_rectangle((left + 20, top + 340, left + 140, top + 380), 8, fill=(37, 99, 235))
        pen.text((left + 44, top + 350), rng.choice(WORDS).title(), fill="white", font=_font(15))
    return page


def draw_photo(seed: int) -> Image.Image:
    """What a photo is to a comparison of pixels: soft colours at several sizes, with a sensor's noise."""
    rng, total = np.random.default_rng(seed), np.zeros((SIDE, SIDE, 3), np.float32)
    for cells in (4, 16, 64):
        small = Image.fromarray(rng.uniform(0, 255, (cells, cells, 3)).astype(np.uint8))
        total += np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32) / cells
    total *= 255 / total.max()
    return Image.fromarray((total + rng.normal(0, 3, (SIDE, SIDE, 1))).clip(0, 255).astype(np.uint8))


def compress(image: Image.Image, quality: int = 80) -> Image.Image:
    """The image after JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def scan(image: Image.Image, seed: int) -> Image.Image:
    """The image as from a scanner: turned by half a degree, on paper with a little noise and shade, after JPEG."""
    rng = np.random.default_rng(seed)
    turned = image.rotate(0.5, Image.Resampling.BICUBIC, fillcolor="white")
    shade = np.linspace(0, 10, SIDE, dtype=np.float32)[:, None, None] + rng.normal(0, 1, (SIDE, SIDE, 1))
    return compress(Image.fromarray((np.asarray(turned, np.float32) - shade).clip(0, 255).astype(np.uint8)))


def draw_recording(seed: int, frames: int = 8) -> list[Image.Image]:
    """A recording of a screen on which only the cursor moves."""
    screen, rng, images = draw_screen(seed), random.Random(seed), []
    for _ in range(frames):
        images.append(screen.copy())
        x, y = rng.randint(0, SIDE - 30), rng.randint(0, SIDE - 30)
        ImageDraw.Draw(images[-1]).polygon([(x, y), (x + 14, y + 14), (x + 6, y + 16), (x, y + 20)], fill="black")
    return images


PAGES: dict[str, Callable[[int], Image.Image]] = {
    "text": draw_text,
    "form": draw_form,
    "table": draw_table,
    "chart": draw_chart,
    "screen": draw_screen,
    "text, JPEG": lambda seed: compress(draw_text(seed)),
    "screen, JPEG": lambda seed: compress(draw_screen(seed)),
    "text, scanned": lambda seed: scan(draw_text(seed), seed),
    "photo": draw_photo,
}


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _write_line(
    pen: ImageDraw.ImageDraw, rng: random.Random, place: tuple[int, int], width: int, size: int
) -> None:  # fmt: skip
    """A line of words that ends before `width` pixels."""
    text = rng.choice(WORDS)
    while pen.textlength(longer := f"{text} {rng.choice(WORDS)}", font=_font(size)) < width:
        text = longer
    pen.text(place, text, fill=(30, 30, 30), font=_font(size))
