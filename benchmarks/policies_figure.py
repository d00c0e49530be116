"""Draw docs/auto.png from results/policies/: tokens against changed answers of each task.

python benchmarks/policies_figure.py
"""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib import pyplot
from matplotlib.axes import Axes

HERE = Path(__file__).parent
OUT = HERE.parent / "docs" / "auto.png"
MODELS = ("bundled-qwen", "bundled")
STYLES = {"fixed budget": ("#888888", "o"), "policy": ("#0072b2", ""), "with a retry": ("#d55e00", "")}


def draw_task(axes: Axes, title: str, curves: dict[str, list[list[float]]]) -> None:
    """One panel: share of the tokens to the right, share of changed answers upwards."""
    for name, points in curves.items():
        color, marker = STYLES[name]
        keep, loss = zip(*sorted(points), strict=True)
        axes.plot(
            [100 * x for x in keep], [100 * y for y in loss], color=color, marker=marker, markersize=3, label=name
        )
    axes.set_title(title, fontsize=8)
    axes.set_xscale("log")
    axes.set_xticks([3, 10, 30, 100], ["3", "10", "30", "100"])
    axes.set_yscale("symlog", linthresh=1)
    axes.set_yticks([0, 1, 5, 20], ["0", "1", "5", "20"])
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)


def main() -> None:
    """Draw a row of panels for each model."""
    records = {name: json.loads((HERE / "results" / "policies" / f"{name}.json").read_text()) for name in MODELS}
    panels = [
        (f"{model}: {task}", curves) for model, each in records.items() for task, curves in each["curves"].items()
    ]
    columns = 6
    rows = -(-len(panels) // columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(12, 1.9 * rows), layout="constrained", sharey=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, curves) in zip(grid.flat, panels, strict=False):
        draw_task(axes, title, curves)
    figure.supxlabel("visual tokens, % of all (log)", fontsize=9)
    figure.supylabel("changed answers, %", fontsize=9)
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=9)
    figure.savefig(OUT, dpi=100)


if __name__ == "__main__":
    main()
