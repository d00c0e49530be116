"""The strip under an overlay that says what its marks mean."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from foveate.viz.paint import HEAT, HEAT_SHARE, Fate, Panel, frame

PAPER, INK = (255, 255, 255), (0, 0, 0)
FONT, WIDTH_PER_POINT = 15, 64  # points at least, and one for so many pixels of width
CELL, GROUND = (128, 128, 128), (58, 58, 58)  # of the marks: a kept cell, a dropped one

Entry = tuple[Fate, str]


def entries(panels: Sequence[Panel]) -> list[Entry]:
    """What there is to explain, with counts of tokens; `DROPPED` stands for the heat."""
    fates = [fate for panel in panels for fate in panel.fates]
    count = {fate: fates.count(fate) for fate in Fate}
    said: list[Entry] = []
    if count[Fate.CORE] or count[Fate.COMPLEMENT]:
        said.append((Fate.CORE, f"core {count[Fate.CORE]}: the most relevant"))
        said.append((Fate.COMPLEMENT, f"complement {count[Fate.COMPLEMENT]}: different from the rest"))
    if count[Fate.KEPT] or not said:
        said.append((Fate.KEPT, f"kept {count[Fate.KEPT]} of {len(fates)}"))
    if any(heat is not None for panel in panels for heat in panel.heat):
        said.append((Fate.DROPPED, "heat: relevance"))
    return said


def strip(said: Sequence[Entry], width: int) -> Image.Image:
    """The entries, each behind its mark, wrapped to `width` pixels, black on white."""
    points = max(FONT, width // WIDTH_PER_POINT)
    font, pad = ImageFont.load_default(size=points), points // 2
    side, line = round(points * 1.3), round(points * 1.6)
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    placed: list[tuple[int, int, Fate | None, str]] = []  # x, line, mark, words
    x, number = pad, 0
    for fate, text in said:
        needed = side + pad + round(ruler.textlength(text, font=font))
        if x > pad and x + needed > width - pad:
            x, number = pad, number + 1
        placed.append((x, number, fate, ""))
        words = x = x + side + pad
        for word in text.split():
            length = round(ruler.textlength(word + " ", font=font))
            if x > words and x + length > width - pad // 2:
                x, number = words, number + 1
            placed.append((x, number, None, word))
            x += length
        x += pad
    out = Image.new("RGB", (width, (number + 1) * line + pad), PAPER)
    pen = ImageDraw.Draw(out)
    for x, number, mark, word in placed:
        top = pad // 2 + number * line
        if mark is not None:
            _swatch(pen, (x, top + (line - side) // 2), side, mark)
        else:
            pen.text((x, top + line // 2), word, font=font, fill=INK, anchor="lm")
    return out


def _swatch(pen: ImageDraw.ImageDraw, corner: tuple[int, int], side: int, fate: Fate) -> None:
    x, y = corner
    if fate is not Fate.DROPPED:
        pen.rectangle((x, y, x + side - 1, y + side - 1), fill=CELL)
        frame(pen, (x, y, x + side, y + side), fate)
        return
    for column in range(side):
        share = HEAT_SHARE * column / (side - 1)
        shade = tuple(round(ground + (heat - ground) * share) for ground, heat in zip(GROUND, HEAT, strict=True))
        pen.line([(x + column, y), (x + column, y + side - 1)], fill=shade)
