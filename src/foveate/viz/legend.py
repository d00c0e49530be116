"""The strip under an overlay that explains its marks."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from foveate.viz.paint import HEAT, HEAT_SHARE, VEIL, Panel, TokenState, draw_frame, hatch

PAPER, INK = (255, 255, 255), (0, 0, 0)
FONT, WIDTH_PER_POINT = 15, 64  # points at least; one point per 64 pixels of width
CELL = (150, 132, 108)  # colour of a kept cell in the marks

Entry = tuple[TokenState | None, str]  # None is the mark of the heat


def list_entries(panels: Sequence[Panel], *, prompt_aware: bool = True) -> list[Entry]:
    """The marks to explain, with counts of tokens. "Relevant" is said only of a method that reads the question."""
    states = [state for panel in panels for state in panel.states]
    count = {state: states.count(state) for state in TokenState}
    total, absent = len(states), count[TokenState.ABSENT]
    score = "relevance to the question" if prompt_aware else "the method's score, without the question"
    best = "the most relevant to the question" if prompt_aware else "the highest scores, without the question"
    entries: list[Entry] = []
    if count[TokenState.LOOK]:  # its panels have the same tokens as those of what was kept
        total, absent, score = total // 2, absent // 2, "attention of the first look, then relevance"
        entries.append((TokenState.LOOK, f"first look {count[TokenState.LOOK]} of {total}: averages around these"))
    if count[TokenState.CORE] or count[TokenState.COMPLEMENT]:
        entries.append((TokenState.CORE, f"core {count[TokenState.CORE]}: {best}"))
        entries.append((TokenState.COMPLEMENT, f"complement {count[TokenState.COMPLEMENT]}: different from the rest"))
    kept = count[TokenState.KEPT] + count[TokenState.CORE] + count[TokenState.COMPLEMENT]
    if count[TokenState.KEPT] or (states and not entries):
        entries.append((TokenState.KEPT, f"kept {count[TokenState.KEPT]} of {total}"))
    dropped = total - kept - absent
    if dropped > 0 and (kept or not count[TokenState.LOOK]):
        entries.append((TokenState.DROPPED, f"dropped {dropped} of {total}"))
    if absent:
        entries.append((TokenState.ABSENT, f"not encoded {absent} of {total}: in parts that were left out"))
    if any(heat is not None for panel in panels for heat in panel.heat):
        entries.append((None, f"map: {score}"))
    return entries


def draw_legend(entries: Sequence[Entry], width: int, points: int | None = None) -> Image.Image:
    """The entries, each after its mark, wrapped to `width` pixels, black on white."""
    points = points or max(FONT, width // WIDTH_PER_POINT)
    font, pad = ImageFont.load_default(size=points), points // 2
    side, line = round(points * 1.3), round(points * 1.6)
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    placed: list[tuple[int, int, TokenState | None, str]] = []  # x, line, mark (where the text is empty), text
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
    for x, number, mark, word in placed:
        top = pad // 2 + number * line
        if not word:
            _draw_mark(out, (x, top + (line - side) // 2), side, mark)
        else:
            pen.text((x, top + line // 2), word, font=font, fill=INK, anchor="lm")
    return out


def _draw_mark(out: Image.Image, corner: tuple[int, int], side: int, mark: TokenState | None) -> None:
    (x, y), pen = corner, ImageDraw.Draw(out)
    if mark is TokenState.ABSENT:
        out.paste(hatch((side, side)), corner)
    elif mark is None:
        for column in range(side):
            share = HEAT_SHARE * column / (side - 1)
            shade = tuple(round(light + (heat - light) * share) for light, heat in zip(VEIL, HEAT, strict=True))
            pen.line([(x + column, y), (x + column, y + side - 1)], fill=shade)
    else:
        pen.rectangle((x, y, x + side - 1, y + side - 1), fill=VEIL if mark is TokenState.DROPPED else CELL)
        if mark is not TokenState.DROPPED:
            draw_frame(pen, (x, y, x + side, y + side), mark)
