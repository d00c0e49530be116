"""`foveate eval`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.apps import console
from foveate.apps.budgets import describe_budget
from foveate.apps.cli import options
from foveate.apps.cli.interrupts import says_when_interrupted
from foveate.apps.cli.loading import takes_load_options
from foveate.apps.encoder import parse_encodes
from foveate.runtime.load_options import LoadOptions

if TYPE_CHECKING:
    from foveate.apps.evaluate.answers import Row

METHODS = "Methods to compare, separated by commas: names, or name(field=value,...)."
KEEP = "Budgets as in `ask`, separated by commas: numbers, auto, files of policies."
TASKS = "Tasks of the bundled world; groups: plain, crowded, all, clips, screens."
DATA = 'Use your own questions: a file with lines of {"image": ..., "question": ..., "answer": ...}.'


@options.app.command("eval")
@takes_load_options
@says_when_interrupted("Finished answers are in {out}: run the same command again to continue.")
def evaluate(
    model: options.Model = "bundled",
    methods: Annotated[str, typer.Option(help=METHODS)] = "foveate,zspaprune,cdpruner,divprune,mmtok",
    keep: Annotated[str, typer.Option(help=KEEP)] = "0.333,0.222,0.111,0.056",
    encode: options.Encodes = "1.0",
    tasks: Annotated[str, typer.Option(help=TASKS)] = "all",
    data: Annotated[Path | None, typer.Option(help=DATA)] = None,
    limit: Annotated[int, typer.Option(min=1, help="Questions of each task (or of --data).")] = 200,
    split: Annotated[str, typer.Option(help="dev (to tune on) or test (to report).")] = "dev",
    seed: Annotated[int, typer.Option(min=0, help="Seed that selects the questions.")] = 0,
    out: options.ResultsFolder = Path("results"),
    batch: Annotated[int, typer.Option(min=1, help="Questions in a batch.")] = 16,
    positions: options.Positions = options.PositionsChoice.original,
    per: options.Per = options.PerChoice.image,
    max_new_tokens: options.MaxNewTokens = 8,
    resize: Annotated[bool, typer.Option(help="Compare with smaller images or fewer frames too.")] = True,
    plot: Annotated[bool, typer.Option(help="Draw plot.png too.")] = True,
    as_json: options.Json = False,
    *,
    loading: LoadOptions,
) -> None:
    """Measure the accuracy of each method at each budget, beside random, grid, resize and the unpruned model."""
    from foveate.apps.evaluate import evaluate as run, read_data, report, sample_examples, settings
    from foveate.apps.evaluate.examples import hash_data
    from foveate.apps.results import open_folder, read_commit, read_versions
    from foveate.runtime.load import load, quiet
    from foveate.runtime.warnings import collect_warnings

    budgets, policies = settings.parse_budgets(keep)
    examples, skipped = read_data(data, limit) if data else (sample_examples(tasks.split(","), split, limit, seed), [])
    arms = settings.make_arms(
        settings.parse_methods(methods), budgets, policies=policies, encoders=parse_encodes(encode), resize=resize,
        positions=positions.value, per=per.value, max_new_tokens=max_new_tokens, modality=examples[0].modality,
    )  # fmt: skip
    if plot:
        report.check_plot()
    console.print_notes(skipped)
    decisive = {  # everything that decides an answer
        "model": model, "methods": methods, "keep": keep, "encode": encode, "commit": read_commit(),
        "policies": {name: describe_budget(policy) for name, policy in policies.items()},
        "tasks": tasks, "data": data and str(data), "limit": limit, "data_sha256": data and hash_data(data),
        "split": split, "seed": seed, "batch": batch, "positions": positions.value, "per": per.value, "resize": resize,
        "max_new_tokens": max_new_tokens, "loading": loading.to_record(), "versions": read_versions(),
    }  # fmt: skip
    with open_folder(out):  # refused before the model is loaded
        pass
    with quiet(), collect_warnings() as notes:
        rows = run(load(model, **vars(loading)), examples, arms, batch=batch, out=out, settings=decisive)
    console.print_notes(notes := console.limit_notes(notes))
    _write(rows, {"settings": decisive, "skipped": skipped, "notes": notes}, out, plot=plot, as_json=as_json)


def _write(rows: Sequence[Row], about: dict[str, Any], out: Path, *, plot: bool, as_json: bool) -> None:
    """Write summary.json, table.md and plot.png, and print the table, even where they cannot be written."""
    from foveate.apps.evaluate import report
    from foveate.apps.results import write_file

    summary = report.summarize(rows)
    record = {**about, **summary.record()}
    table = report.format_tables(summary) + "".join(f"\n{line}" for line in (*about["skipped"], *about["notes"]))
    try:
        write_file(out / "summary.json", json.dumps(record, indent=1) + "\n")
        write_file(out / "table.md", table)
        if plot:
            report.draw_plot(summary, out / "plot.png")
    finally:
        print(table)
        if as_json:
            print(json.dumps(record))
