"""Draw a run in vLLM from its record: latency and goodput against the load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.apps.results import write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # Okabe and Ito's
MARKERS = "osD^vP"


def plot(record: dict[str, Any], path: Path) -> None:
    """Draw a row of panels for each number of questions about an image, a line for each arm.

    On the left the seconds to the first token (median, dotted 95 %) over the requests a second that were answered, on
    the right the requests a second that were answered in time, over the load.
    """
    from matplotlib.figure import Figure

    counts = sorted({case["questions"] for case in record["arms"][0]["cases"]})
    figure = Figure(figsize=(9.6, 0.9 + 2.7 * len(counts)), layout="constrained")
    for row, count in zip(figure.subplots(len(counts), 2, squeeze=False), counts, strict=True):
        for number, arm in enumerate(record["arms"]):
            cases = [case for case in arm["cases"] if case["questions"] == count]
            style = {"color": COLORS[number % len(COLORS)], "marker": MARKERS[number % len(MARKERS)], "ms": 4}
            _draw_latency(row[0], arm["name"], cases, style)
            _draw_goodput(row[1], cases, style)
        row[0].set_xscale("log")
        row[0].set_yscale("log")
        for axis in (row[0].xaxis, row[0].yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
        row[0].xaxis.set_minor_formatter("{x:.1g}")
        row[1].set_ylim(bottom=0)
        row[0].set_title(f"{count} question{'s' * (count > 1)} about each image", fontsize=9, loc="left")
        row[0].set_ylabel("first token, s (dotted: 95 %)", fontsize=8)
        row[1].set_ylabel("requests/s in time", fontsize=8)
    row[0].set_xlabel("requests/s", fontsize=8)
    row[1].set_xlabel("clients, or requests/s at random", fontsize=8)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(which="both", labelsize=6)
    bound = record["bound"]
    in_time = f"in time: {bound['first']:.2g} s to the first token, {bound['per_token']:.2g} s each"
    figure.suptitle(f"{record['model']} in vLLM, {in_time}", fontsize=10, x=0.02, ha="left")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    write_figure(path, figure)


def _draw_latency(axes: Axes, name: str, cases: list[dict[str, Any]], style: dict[str, Any]) -> None:
    cases = sorted((case for case in cases if case["clients"]), key=lambda case: case["clients"])
    speeds = [case["requests_a_second"]["median"] for case in cases]
    for percent, line, label in (("50", "-", name), ("95", ":", None)):
        values = [case["first_token_percentiles"][percent] for case in cases]
        axes.plot(speeds, values, ls=line, label=label, lw=1.2, **style)


def _draw_goodput(axes: Axes, cases: list[dict[str, Any]], style: dict[str, Any]) -> None:
    names = [str(case["clients"]) if case["clients"] else f"{case['rate']:.2g}/s" for case in cases]
    axes.plot(range(len(cases)), [case["goodput"]["median"] for case in cases], lw=1.2, **style)
    axes.set_xticks(range(len(cases)), names)
