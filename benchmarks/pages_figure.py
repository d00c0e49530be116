"""Draw docs/pages.png from results/pages-*.json: right answers against time, one panel for each size of the pages.

python benchmarks/pages_figure.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.axes import Axes

HERE = Path(__file__).parent
OUT = HERE.parent / "docs" / "pages.png"
TICKS = (0.05, 0.1, 0.2, 0.5, 1)
STYLES = {
    "unpruned": ("#000000", "s"),
    "all tiles": ("#0072b2", "s"),
    "question": ("#0072b2", "o"),
    "auto": ("#0072b2", "*"),
    "blind": ("#e69f00", "v"),
    "random": ("#888888", "x"),
    "resize": ("#d55e00", "D"),
}
"""Colour and marker by what is encoded. `question`, `auto`, `blind` and `random` choose tiles."""


def find_kind(label: str) -> str:
    """The style of an arm of `pages.py`."""
    return next(kind for kind in reversed(STYLES) if kind in label)


def draw_size(axes: Axes, record: dict[str, Any]) -> None:
    """One panel: time to first token to the right, times that of the unpruned model; right answers upwards."""
    for label, arm in record["arms"].items():
        kind, score = find_kind(label), arm["all"]
        color, marker = STYLES[kind]
        spread = [[score["value"] - score["low"]], [score["high"] - score["value"]]]
        share = f"{arm['encoded']['all']:.0%}" if kind in ("question", "auto") else ""
        axes.errorbar(
            arm["time"], score["value"], yerr=spread, color=color, marker=marker, label=kind, linestyle="", capsize=2
        )
        axes.annotate(share, (arm["time"], score["value"]), xytext=(6, -3), textcoords="offset points", fontsize=7)
    axes.set_title(f"{record['side']} pixels, {record['questions']} questions", fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(0.045, 1.3)
    axes.set_xticks(TICKS, map(str, TICKS), minor=False)
    axes.minorticks_off()
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)


def main() -> None:
    """Draw a panel for each file."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    records = [json.loads(path.read_text()) for path in sorted((HERE / "results").glob("pages-*.json"))]
    if not records:
        raise SystemExit("There is no results/pages-*.json: run benchmarks/pages.py first.")
    figure, panels = pyplot.subplots(
        1, len(records), figsize=(5 * len(records), 3.8), layout="constrained", sharey=True, squeeze=False
    )
    for axes, record in zip(panels.flat, records, strict=True):
        draw_size(axes, record)
    handles = dict(zip(*reversed(panels.flat[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), fontsize=8)
    figure.supxlabel("time to first token, times unpruned (beside points: share of the tiles encoded)", fontsize=9)
    figure.supylabel("right answers", fontsize=9)
    figure.savefig(OUT, dpi=100)


if __name__ == "__main__":
    main()
