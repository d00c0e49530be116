"""What a run prints and draws: a table a case, its targets and verdict, and the time to first token in stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from foveate.apps.bench.arms import STAGES, Arm
from foveate.apps.bench.figures import STAGE_NAMES, Spread, figures, verdict
from foveate.apps.bench.figures import record as case_record
from foveate.apps.bench.measure import Case
from foveate.apps.bench.settings import shown
from foveate.apps.bench.subject import Subject
from foveate.apps.console import format_mib

HEADS = (
    "", "visual tokens", "vision encoder, ms", "selection, ms", "prefill, ms", "time to first token, ms",
    "decode, ms/token", "KV cache", "peak memory",
)  # fmt: skip
LOOKS = {"encoder": ("#999999", ""), "selection": ("#D55E00", "xxx"), "prefill": ("#56B4E9", "//")}  # Okabe and Ito's
LEGEND = (
    "Medians, in brackets quartiles. Limit: the encoder, then the same stock model given as many tokens outright. "
    "Peak memory: of a whole request (a limit's without the encoder), on top of what was held before it."
)
BAR = 0.62  # of the room between two


def record(subject: Subject, cases: Sequence[Case]) -> dict[str, Any]:
    """Everything, as JSON has it."""
    found = [case_record(case) for case in cases]
    return {"model": subject.record(), "notes": list(subject.notes), "cases": found}


def markdown(subject: Subject, cases: Sequence[Case]) -> str:
    """What was measured, then all cases, each ending in its verdict."""
    model = subject.record()
    where = f"{model['dtype']} on {model['device']}, CPU threads: {torch.get_num_threads()}"
    lines = [f"{model['name']}, {where}.", *subject.notes, "", LEGEND]
    for case in cases:
        lines += ["", *_case(case)]
    return "\n".join(lines) + "\n"


def _case(case: Case) -> list[str]:
    head = f"Batch {case.batch}, picture {shown(case.size)}: {case.total} visual of {case.whole.length} tokens."
    lines = [head, "", row(HEADS), row(["---"] * len(HEADS))]
    lines += [row(_cells(arm)) for arm in case.arms]
    lines += [f"\nNote: {note}" for note in case.notes]
    found = [(arm.name, figures(case, arm)) for arm in case.pruned]
    names = list(dict.fromkeys(target.name for _, own in found for target in own.targets))
    lines += ["", row(["", "time to first token saved, %", *names]), row(["---"] * (len(names) + 2))]
    for arm_name, own in found:
        reached = {
            t.name: f"{t.value.text(1, t.digits)} {'met' if t.met else 'NOT MET'} ({t.bound})" for t in own.targets
        }
        lines.append(row([arm_name, own.saved.text(100, 0), *(reached.get(name, "-") for name in names)]))
    return [*lines, "", verdict(case)]


def row(cells: Sequence[str]) -> str:
    """Of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def _cells(arm: Arm) -> list[str]:
    times = [_time(arm.seconds.get(stage, [])) for stage in (*STAGES, "first_token")]
    kv = "-" if arm.kv_bytes is None else format_mib(arm.kv_bytes)
    peak = "-" if arm.peak is None else format_mib(arm.peak.above)
    return [arm.name, str(arm.kept), *times, _time(arm.decode), kv, peak]


def _time(seconds: Sequence[float]) -> str:
    return Spread.of(seconds).text(1000) if seconds else "-"


def plot(subject: Subject, cases: Sequence[Case], path: Path) -> None:
    """A panel a case: a bar an arm, its time to first token in stages."""
    from matplotlib.figure import Figure

    bars = max(len(case.arms) for case in cases)
    figure = Figure(figsize=(8.4, 0.8 + len(cases) * (0.9 + 0.36 * bars)), layout="constrained")
    for axes, case in zip(figure.subplots(len(cases), squeeze=False)[:, 0], cases, strict=True):
        labels = []
        for place, arm in enumerate(case.arms):
            labels.append(arm.name)
            left = 0.0
            for stage, (color, hatch) in LOOKS.items():
                milliseconds = 1000 * Spread.of(arm.seconds.get(stage) or [0.0]).median
                label = STAGE_NAMES[stage] if place == 1 and axes is figure.axes[0] else None
                axes.barh(
                    place, milliseconds, BAR, left, color=color, hatch=hatch, edgecolor="black", lw=0.6, label=label
                )
                left += milliseconds
            whole = 1000 * Spread.of(arm.seconds["first_token"]).median
            axes.text(left, place, f" {whole:.{0 if whole >= 100 else 1}f}", va="center", fontsize=8)
        axes.set_yticks(range(len(labels)), labels, fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"batch {case.batch}, picture {shown(case.size)}", fontsize=9, loc="left")
    figure.axes[-1].set_xlabel("time to first token, ms")
    figure.suptitle(subject.name, fontsize=10, x=0.02, ha="left")
    figure.legend(loc="outside upper right", ncols=3, fontsize=8)
    figure.savefig(path, dpi=150, metadata={"Software": None})
