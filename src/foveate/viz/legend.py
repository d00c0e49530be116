"""The strip under an overlay that explains its marks."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from foveate.viz.paint import HEAT, HEAT_SHARE, Panel, TokenState, draw_frame, hatch

PAPER, INK = (255, 255, 255), (0, 0, 0)
FONT, WIDTH_PER_POINT = 15, 64  # points at least; one point per 64 pixels of width
CELL, GROUND = (128, 128, 128), (58, 58, 58)  # colours of a kept and of a dropped cell in the marks

Entry = tuple[TokenState, str]


def list_entries(panels: Sequence[Panel]) -> list[Entry]:
    """The marks to explain, with counts of tokens; the entry of `DROPPED` explains the heat."""
    states = [state for panel in panels for state in panel.states]
    count = {state: states.count(state) for state in TokenState}
    total, absent, heat_text = len(states), count[TokenState.ABSENT], "heat: relevance"
    entries: list[Entry] = []
    if count[TokenState.LOOK]:  # its panels have the same tokens as those of what was kept
        total, absent, heat_text = total // 2, absent // 2, "heat: attention of the first look, then relevance"
        entries.append((TokenState.LOOK, f"first look {count[TokenState.LOOK]} of {total}: averages around these"))
    if count[TokenState.CORE] or count[TokenState.COMPLEMENT]:
        entries.append((TokenState.CORE, f"core {count[TokenState.CORE]}: the most relevant"))
        entries.append((TokenState.COMPLEMENT, f"complement {count[TokenState.COMPLEMENT]}: different from the rest"))
    if count[TokenState.KEPT] or not entries:
        entries.append((TokenState.KEPT, f"kept {count[TokenState.KEPT]} of {total}"))
    if absent:
        entries.append((TokenState.ABSENT, f"not encoded {absent} of {total}: in parts that were left out"))
    if any(heat is not None for panel in panels for heat in panel.heat):
        entries.append((TokenState.DROPPED, heat_text))
    return entries


def draw_legend(entries: Sequence[Entry], width: int) -> Image.Image:
    """The entries, each after its mark, wrapped to `width` pixels, black on white."""
    points = max(FONT, width // WIDTH_PER_POINT)
    font, pad = ImageFont.load_default(size=points), points // 2
    side, line = round(points * 1.3), round(points * 1.6)
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    placed: list[tuple[int, int, TokenState | None, str]] = []  # x, line, mark, text
    x, number = pad, 0
    for state, text in entries:
        needed = side + pad + round(ruler.textlength(text, font=font))
        if x > pad and x + needed > width - pad:
            x, number = pad, number + 1
        placed.append((x, number, state, ""))
        text_start = x = x + side + pad
        for word in text.split():
            length = round(ruler.textlength(word + " ", font=font))
            if x > text_start and x + length > width - pad // 2:
                x, number = text_start, number + 1
            placed.append((x, number, None, word))
            x += length
        x += pad
    out = Image.new("RGB", (width, (number + 1) * line + pad), PAPER)
    pen = ImageDraw.Draw(out)
    for x, number, state_of_mark, word in placed:
        top = pad // 2 + number * line
        if state_of_mark is not None:
            _draw_mark(out, (x, top + (line - side) // 2), side, state_of_mark)
        else:
            pen.text((x, top + line // 2), word, font=font, fill=INK, anchor="lm")
    return out


def _draw_mark(out: Image.Image, corner: tuple[int, int], side: int, state: TokenState) -> None:
    (x, y), pen = corner, ImageDraw.Draw(out)
    if state is TokenState.ABSENT:
        out.paste(hatch(Image.new("RGB", (side, side), GROUND)), corner)
        return
    if state is not TokenState.DROPPED:
        pen.rectangle((x, y, x + side - 1, y + side - 1), fill=CELL)
        draw_frame(pen, (x, y, x + side, y + side), state)
        return
    for column in range(side):
        share = HEAT_SHARE * column / (side - 1)
        shade = tuple(round(ground + (heat - ground) * share) for ground, heat in zip(GROUND, HEAT, strict=True))
        pen.line([(x + column, y), (x + column, y + side - 1)], fill=shade)
