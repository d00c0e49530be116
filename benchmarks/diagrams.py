"""Draw docs/pipeline.svg and docs/laws.svg, the two figures of docs/how-it-works.md.

python benchmarks/diagrams.py
"""

import argparse
from collections.abc import Sequence
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
WIDTH = 880
INK, PAPER, STOCK, OURS, FAINT = "#263238", "#ffffff", "#eceff1", "#ffe0a3", "#b0bec5"
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">'
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0,0 L8,4 L0,8 z" fill="{ink}"/></marker></defs><rect width="{width}" height="{height}" fill="{paper}"/>'
)


def draw_box(x: int, y: int, width: int, height: int, lines: Sequence[str], fill: str) -> str:
    """A box with lines of text, the first one bold."""
    top = y + height / 2 - 9 * (len(lines) - 1) + 5
    text = "".join(
        f'<text x="{x + width / 2}" y="{top + 18 * n}" text-anchor="middle" fill="{INK}" '
        f'font-weight="{"normal" if n else "bold"}">{escape(line)}</text>'
        for n, line in enumerate(lines)
    )
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{INK}"/>{text}'


def draw_arrow(x1: int, y1: int, x2: int, y2: int) -> str:
    """An arrow from one point to another."""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{INK}" stroke-width="1.5" marker-end="url(#tip)"/>'


def draw_text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    """A line of text."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'


def draw_tokens(x: int, y: int, states: str, first: int = 0, size: int = 18) -> str:
    """A row of tokens: v kept, m masked, d dropped (a gap), t text, with positions from `first` on (none below 0)."""
    fills = {"v": OURS, "m": PAPER, "t": STOCK}
    cells = []
    for n, state in enumerate(states):
        if state == "d":
            continue
        dash = ' stroke-dasharray="3 2"' if state == "m" else ""
        left = x + n * (size + 3)
        cells.append(
            f'<rect x="{left}" y="{y}" width="{size}" height="{size}" fill="{fills[state]}" stroke="{INK}"{dash}/>'
        )
        if n + first >= 0:
            number = draw_text(left + size / 2, y + size + 14, str(n + first))
            cells.append(number.replace("<text", '<text font-size="10"', 1))
    return "".join(cells)


def draw_pipeline() -> str:
    """The way of an image and a question: what is stock, and what is ours."""
    parts = [HEAD.format(width=WIDTH, height=330, ink=INK, paper=PAPER)]
    top = [
        ("image", "question", STOCK),
        ("processor", "stock", STOCK),
        ("vision encoder", "stock", STOCK),
        ("choose", "by the question", OURS),
        ("language model", "stock", STOCK),
    ]
    for n, (name, note, fill) in enumerate(top):
        left = 10 + n * 174
        parts.append(draw_box(left, 30, 150, 64, (name, note), fill))
        if n:
            parts.append(draw_arrow(left - 24, 62, left - 2, 62))
    parts.append(draw_text(620, 122, "in prune_inputs, attach and pruning, step by step:"))
    steps = [
        ("encode", "or some tiles"),
        ("locate", "tokens, question"),
        ("budget", "keep, or a policy"),
        ("select", "which tokens"),
        ("shorten", "ids, positions"),
        ("report", "what was kept"),
    ]
    for n, lines in enumerate(steps):
        left = 10 + n * 146
        parts.append(draw_box(left, 140, 130, 60, lines, OURS))
        if n:
            parts.append(draw_arrow(left - 16, 170, left - 2, 170))
    parts.append(draw_text(14, 240, "prompt before", "start") + draw_tokens(130, 226, "ttvvvvvvvvvvtttt"))
    parts.append(draw_text(14, 290, "prompt after", "start") + draw_tokens(130, 276, "ttdvddvvdddvtttt"))
    parts.append(draw_text(490, 290, "kept tokens and text stay at their positions", "start"))
    parts.append(draw_box(490, 222, 18, 18, (), OURS) + draw_text(516, 237, "visual token", "start"))
    parts.append(draw_box(620, 222, 18, 18, (), STOCK) + draw_text(646, 237, "text", "start"))
    return "".join(parts) + "</svg>\n"


def draw_laws() -> str:
    """The laws: both sides of each equation as prompts."""
    laws = [
        ("keep = 1.0", 0, "ttvvvvvvtt", "ttvvvvvvtt", "the untouched model"),
        ("pruned", 0, "ttvddvdvtt", "ttvmmvmvtt", "all tokens, the dropped ones masked"),
        ("a padded row of a batch", -2, "mmttvdvdtt", "ttvdvdtt", "the same row alone"),
        ("one more word, with the cache", 0, "ttvddvdvttt", "ttvddvdvttt", "everything computed again"),
        ("after remove()", 0, "ttvvvvvvtt", "ttvvvvvvtt", "a model that was never touched"),
    ]
    parts = [HEAD.format(width=WIDTH, height=30 + 66 * len(laws), ink=INK, paper=PAPER)]
    for n, (name, first, left, right, meaning) in enumerate(laws):
        y = 40 + 66 * n
        parts += [draw_text(14, y - 14, name, "start"), draw_tokens(14, y - 4, left, first)]
        parts += [draw_text(330, y + 12, "="), draw_text(360, y - 14, meaning, "start"), draw_tokens(360, y - 4, right)]
        parts.append(draw_text(866, y + 10, "logits, to 1e-5", "end"))
    return "".join(parts) + "</svg>\n"


def main() -> None:
    """Write both files."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    (DOCS / "pipeline.svg").write_text(draw_pipeline())
    (DOCS / "laws.svg").write_text(draw_laws())


if __name__ == "__main__":
    main()
