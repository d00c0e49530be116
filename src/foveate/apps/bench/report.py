"""What a run prints and draws: tables, targets and verdict of every case, and the stages of the time to first token."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from foveate.apps.bench.arms import STAGES, BenchArm, EncodedBenchArm
from foveate.apps.bench.encoded import HEADS as ENCODED_HEADS, list_rows
from foveate.apps.bench.figures import STAGE_NAMES, compute_figures, to_record as to_case_record, write_verdict
from foveate.apps.bench.measure import BenchCase
from foveate.apps.bench.model import BenchModel
from foveate.apps.bench.settings import format_size
from foveate.apps.bench.spread import Spread
from foveate.apps.console import format_mib
from foveate.apps.results import write_figure

HEADS = (
    "", "visual tokens", "vision encoder, ms", "first look, ms", "selection, ms", "prefill, ms",
    "time to first token, ms", "decode, ms/token", "KV cache", "peak memory",
)  # fmt: skip
STYLES = {
    "encoder": ("#999999", ""), "glance": ("#F0E442", "..."), "selection": ("#D55E00", "xxx"),
    "prefill": ("#56B4E9", "//"),
}  # Okabe and Ito's  # fmt: skip
LEGEND = (
    "Medians, in brackets quartiles. Limit: the encoder, then the same stock model on a prompt of as many tokens. "
    "Peak memory: of a whole request (a limit's without the encoder), on top of what was in use before it."
)
BAR = 0.62  # height, of the distance between two bars


def to_record(model: BenchModel, cases: Sequence[BenchCase]) -> dict[str, Any]:
    """The whole run as JSON."""
    return {
        "model": model.to_record(),
        "notes": list(model.notes),
        "cases": [to_case_record(case) for case in cases],
        "threads": torch.get_num_threads(),
    }


def to_markdown(model: BenchModel, cases: Sequence[BenchCase], *, targets: bool = False) -> str:
    """The model, then all cases, each ending in its verdict; with the project's own `targets` too."""
    about = model.to_record()
    where = f"{about['dtype']} on {about['device']}, CPU threads: {torch.get_num_threads()}"
    lines = [f"{about['name']}, {where}.", *model.notes, "", LEGEND]
    for case in cases:
        lines += ["", *_format_case(case, targets)]
    return "\n".join(lines) + "\n"


def _format_case(case: BenchCase, has_targets: bool) -> list[str]:
    size, unpruned = format_size(case.size), case.unpruned
    lines = [f"Batch {case.batch}, image {size}: {case.total} visual of {unpruned.length} tokens.", ""]
    lines += format_table(HEADS, [_format_arm(arm) for arm in case.arms])
    lines += [f"\nNote: {note}" for note in case.notes]
    figures = {arm.name: compute_figures(case, arm) for arm in case.pruned}
    targets = list(dict.fromkeys(target.name for each in figures.values() if has_targets for target in each.targets))
    rows = []
    for name, each in figures.items():
        values = {target.name: target.format() for target in each.targets}
        rows.append([name, each.saved.format(100, 0), *(values.get(target, "-") for target in targets)])
    lines += ["", *format_table(["", "time to first token saved, %", *targets], rows)]
    encoded = [arm for arm in case.pruned if isinstance(arm, EncodedBenchArm)]
    if encoded:
        lines += ["", *format_table(ENCODED_HEADS, list_rows(encoded))]
    return [*lines, "", write_verdict(case)]


def format_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def _format_arm(arm: BenchArm) -> list[str]:
    times = [_format_seconds(arm.seconds.get(stage, [])) for stage in (*STAGES, "first_token")]
    kv = "-" if arm.kv_bytes is None else format_mib(arm.kv_bytes)
    peak = "-" if arm.peak is None else format_mib(arm.peak.above)
    return [arm.name, str(arm.kept), *times, _format_seconds(arm.decode), kv, peak]


def _format_seconds(seconds: Sequence[float]) -> str:
    return Spread.from_values(seconds).format(1000) if seconds else "-"


def plot(model: BenchModel, cases: Sequence[BenchCase], path: Path) -> None:
    """Draw a panel for each case: a bar for each arm, its time to first token in stages."""
    from matplotlib.figure import Figure

    bars = max(len(case.arms) for case in cases)
    figure = Figure(figsize=(8.4, 0.8 + len(cases) * (0.9 + 0.36 * bars)), layout="constrained")
    for axes, case in zip(figure.subplots(len(cases), squeeze=False)[:, 0], cases, strict=True):
        for place, arm in enumerate(case.arms):
            left = 0.0
            for stage, (color, hatch) in STYLES.items():
                milliseconds = 1000 * Spread.from_values(arm.seconds.get(stage) or [0.0]).median
                label = STAGE_NAMES[stage] if place == 1 and axes is figure.axes[0] else None
                axes.barh(
                    place, milliseconds, BAR, left, color=color, hatch=hatch, edgecolor="black", lw=0.6, label=label
                )
                left += milliseconds
            total = 1000 * Spread.from_values(arm.seconds["first_token"]).median
            axes.text(left, place, f" {total:.{0 if total >= 100 else 1}f}", va="center", fontsize=8)
        axes.set_yticks(range(len(case.arms)), [arm.name for arm in case.arms], fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"batch {case.batch}, image {format_size(case.size)}", fontsize=9, loc="left")
    figure.axes[-1].set_xlabel("time to first token, ms")
    figure.suptitle(model.name, fontsize=10, x=0.02, ha="left")
    figure.legend(loc="outside upper right", ncols=3, fontsize=8)
    write_figure(path, figure)
