"""The figures of a run as tables: Markdown for the file, and two short ones for the terminal."""

from typing import Literal

from rich.console import Console
from rich.table import Table

from foveate.apps.evaluate.report import UNPRUNED, EvalSummary

Figure = Literal["accuracy", "relative"]
INTERVALS = "In brackets: 95 % bootstrap intervals over questions, where there are enough of them."


def list_overview(summary: EvalSummary, figure: Figure) -> tuple[list[str], list[list[str]]]:
    """The budgets, and for each method its name and this figure at each budget."""
    keeps = list(dict.fromkeys(arm.keep for arm in summary.arms if arm.keep is not None))
    cells = {(arm.name, arm.keep): str(getattr(arm, figure)) for arm in summary.arms}
    names = dict.fromkeys(arm.name for arm in summary.arms)
    rows = [[name, *(cells.get((name, keep)) or cells.get((name, None), "") for keep in keeps)] for name in names]
    return list(map(str, keeps)), rows


def format_overview(summary: EvalSummary, figure: Figure) -> str:
    """A table of this figure with its interval: one row for each method, one column for each budget."""
    keeps, rows = list_overview(summary, figure)
    lines = [f"| keep | {' | '.join(keeps)} |", "|---" * (len(keeps) + 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def describe_questions(summary: EvalSummary) -> str:
    """How many questions there are, and which of them say nothing about pruning."""
    total = sum(summary.questions.values())
    intro = f"{total} questions ({', '.join(f'{task} {n}' for task, n in summary.questions.items())})."
    if summary.blind:
        intro += f" {', '.join(summary.blind)}: answered nearly as well without the image; no evidence about pruning."
    return intro


def format_tables(summary: EvalSummary) -> str:
    """The overviews, then a table for each budget, which begins with the unpruned and the blind model."""
    tasks = list(summary.questions)
    lines = [describe_questions(summary), "", "Accuracy:", "", format_overview(summary, "accuracy")]
    lines += [
        "",
        "Accuracy relative to the unpruned model, mean of the tasks:",
        "",
        format_overview(summary, "relative"),
    ]
    for keep in dict.fromkeys(arm.keep for arm in summary.arms if arm.keep is not None):
        heads = [task + (" †" if task in summary.blind else "") for task in tasks]
        tiles = ["parts encoded"] if any(arm.keep == keep and arm.encoded is not None for arm in summary.arms) else []
        names = [f"keep {keep}", "tokens", *tiles, "relative, mean of tasks", "all", *heads, "p"]
        lines += ["", f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
        for arm in summary.arms:
            if arm.keep in (None, keep):
                shares = " | ".join(f"{arm.tasks[task].value:.3f}" for task in tasks)
                p = "" if arm.name == UNPRUNED else f"{arm.p:.1g}"
                part = ["" if arm.encoded is None else f"{arm.encoded:.0%}"] * len(tiles)
                cells = [arm.name, f"{arm.tokens:.0f}", *part, arm.relative, arm.accuracy, shares, p]
                lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", f"{INTERVALS} p: paired test against the unpruned model."]
    return "\n".join(lines) + "\n"


def print_tables(summary: EvalSummary, metric: str) -> None:
    """Print the score of each method at each budget, and the score relative to the unpruned model."""
    console = Console(highlight=False)
    console.print(describe_questions(summary))
    titles: dict[Figure, str] = {"accuracy": f"score ({metric})", "relative": "relative to the unpruned model"}
    for figure, title in titles.items():
        heads, rows = list_overview(summary, figure)
        table = Table("method", *(f"keep {keep}" for keep in heads), title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(INTERVALS)
