"""`foveate eval`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.apps import console
from foveate.apps.cli import options
from foveate.apps.cli.interrupts import says_when_interrupted
from foveate.apps.cli.loading import takes_load_options
from foveate.runtime.load_options import LoadOptions

if TYPE_CHECKING:
    from foveate.apps.evaluate.plan import EvalPlan
    from foveate.apps.evaluate.report import EvalSummary

HTML = "Write report.html too: figures, plot, and the questions that were lost, with what was kept."
EXTEND = "Add these methods, budgets, tasks and questions to the run in --out; its rows stay."
METRIC = "exact, contains, numeric, anls, choice (multiple choice) or vqa (several references)."
TOLERANCE = "Of --metric numeric: a share of the number; default 0.05."
PREFIX, SUFFIX = "A text before each question.", 'A text behind each question, such as " Answer with one word."'
METHODS = "Methods to compare, separated by commas: names, or name(field=value,...)."
KEEP = "Budgets as in `ask`, separated by commas: numbers, auto, files of policies."
TASKS = "Tasks of the bundled world; groups: plain, crowded, all, pages, clips, screens."
DATA = (
    'Use your own questions: a file with lines of {"image": ..., "question": ..., "answer": ...}; "images", "video" '
    'and "videos" too.'
)
FRAMES = "Frames of each clip of --data that are shown, evenly in time, at most."


@options.app.command("eval")
@takes_load_options
@says_when_interrupted("Finished answers are in {out}: run the same command again to continue.")
def evaluate(
    context: typer.Context,
    model: options.Model = "bundled",
    methods: Annotated[str, typer.Option(help=METHODS)] = "foveate,zspaprune,cdpruner,divprune,mmtok",
    keep: Annotated[str, typer.Option(help=KEEP)] = "0.333,0.222,0.111,0.056",
    encode: options.Encodes = "1.0",
    skip: options.Skips = None,
    tasks: Annotated[str, typer.Option(help=TASKS)] = "all",
    data: Annotated[Path | None, typer.Option(help=DATA, parser=options.parse_file, metavar="PATH")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Questions of each task (or of --data).")] = 200,
    split: Annotated[str, typer.Option(help="dev (to tune on) or test (to report).")] = "dev",
    seed: Annotated[int, typer.Option(min=0, help="Seed that selects the questions.")] = 0,
    out: options.ResultsFolder = Path("results"),
    batch: Annotated[int, typer.Option(min=1, help="Questions in a batch; one where they have clips.")] = 16,
    max_frames: Annotated[int, typer.Option(min=1, help=FRAMES)] = 16,
    positions: options.Positions = options.PositionsChoice.original,
    per: options.Per = options.PerChoice.image,
    max_new_tokens: options.MaxNewTokens = 8,
    resize: Annotated[bool, typer.Option(help="Compare with smaller images or fewer frames too.")] = True,
    metric: Annotated[str, typer.Option(help=METRIC)] = "exact",
    tolerance: Annotated[float | None, typer.Option(help=TOLERANCE)] = None,
    prompt_prefix: Annotated[str, typer.Option(help=PREFIX)] = "",
    prompt_suffix: Annotated[str, typer.Option(help=SUFFIX)] = "",
    extend: Annotated[bool, typer.Option("--extend", help=EXTEND)] = False,
    plot: Annotated[bool, typer.Option(help="Draw plot.png too.")] = True,
    html: Annotated[bool, typer.Option("--html", help=HTML)] = False,
    as_json: options.Json = False,
    *,
    loading: LoadOptions,
) -> None:
    """Measure the accuracy of each method at each budget, beside random, grid, resize and the unpruned model."""
    from foveate.apps.evaluate.plan import EvalPlan

    values = {
        "methods": methods, "keep": keep, "encode": encode, "skip": skip, "tasks": tasks, "data": data, "limit": limit,
        "split": split, "seed": seed, "batch": batch, "positions": positions.value, "per": per.value, "metric": metric,
        "max_new_tokens": max_new_tokens, "resize": resize, "tolerance": tolerance, "prompt_prefix": prompt_prefix,
        "prompt_suffix": prompt_suffix, "max_frames": max_frames,
    }  # fmt: skip
    if extend:
        plan = EvalPlan.extending(out, **{name: values[name] for name in values if options.is_set(context, name)})
    else:
        plan = EvalPlan(**values)  # type: ignore[arg-type]
    _run(plan, model, loading, out, extend=extend, plot=plot, html=html, as_json=as_json)


def _run(
    plan: EvalPlan, model: str, loading: LoadOptions, out: Path, *, extend: bool, plot: bool, html: bool, as_json: bool
) -> None:
    """Check everything before the model is loaded, then run."""
    from foveate.apps.evaluate.page import write_page
    from foveate.apps.results import write_file
    from foveate.runtime.load import load, quiet
    from foveate.runtime.warnings import collect_warnings

    plan.check()
    _check_results(out, plot=plot)
    with quiet(), collect_warnings() as notes:
        loaded = load(model, **vars(loading))
        result = plan.run(loaded, out=out, extend=extend, loading=loading)
        page = write_page(plan, loaded, result, plot=plot) if html else None
    console.print_notes(result.skipped)
    console.print_notes(notes := console.limit_notes(notes))
    about = {"settings": plan.describe(model, loading), "skipped": list(result.skipped), "notes": notes}
    if page is not None:
        write_file(out / "report.html", page)
    _write(result.summary, about, out, plot=plot, as_json=as_json)


def _check_results(out: Path, *, plot: bool) -> None:
    """Raise `InputError` where the results cannot be written or drawn."""
    from foveate.apps.evaluate import report
    from foveate.apps.results import open_folder

    if plot:
        report.check_plot()
    with open_folder(out):
        pass


def _write(summary: EvalSummary, about: dict[str, Any], out: Path, *, plot: bool, as_json: bool) -> None:
    """Write summary.json, table.md and plot.png, and print the figures, even where they cannot be written."""
    from foveate.apps.evaluate import report, tables
    from foveate.apps.results import write_file

    record = {**about, **summary.record()}
    table = tables.format_tables(summary) + "".join(f"\n{line}" for line in (*about["skipped"], *about["notes"]))
    tables.print_tables(summary, about["settings"]["metric"])
    try:
        write_file(out / "summary.json", json.dumps(record, indent=1) + "\n")
        write_file(out / "table.md", table)
        if plot:
            report.draw_plot(summary, out / "plot.png")
        print(f"Tables with every task and budget are in {out / 'table.md'}.")
    finally:
        if as_json:
            print(json.dumps(record))
