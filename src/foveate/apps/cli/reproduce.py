"""`foveate reproduce`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.apps import console
from foveate.apps.cli import options
from foveate.apps.cli.interrupts import says_when_interrupted
from foveate.apps.cli.loading import takes_load_options
from foveate.runtime.load_options import LoadOptions

if TYPE_CHECKING:
    from foveate.apps.reproduce.report import ReproducedScore

BENCHMARKS = "lmms-eval's tasks, separated by commas; textvqa has the OCR tokens in the prompt, as in papers."
METHODS = "Methods, separated by commas, as in `eval`; all is every one that the model can run."
KEEP = "Budgets, separated by commas: numbers of tokens of an image, or shares."
PUBLISHED = "A file of more published numbers, as docs/reproduce.md shows."
SAME = "The model whose published numbers stand beside ours, where --model is a folder."
FOLDER = "A folder of more tasks in lmms-eval's format."
LIMIT = "Only the first questions of each benchmark, so many: to see that it runs and how long it takes."


@options.app.command()
@takes_load_options
@says_when_interrupted("Finished benchmarks are in {out}: run the same command again to continue.")
def reproduce(
    model: options.Model = "llava-hf/llava-1.5-7b-hf",
    benchmarks: Annotated[str, typer.Option(help=BENCHMARKS)] = "pope,gqa,textvqa,mmmu_val",
    methods: Annotated[str, typer.Option(help=METHODS)] = "all",
    keep: Annotated[str, typer.Option(help=KEEP)] = "192,128,64,32",
    published: Annotated[Path | None, typer.Option(help=PUBLISHED, parser=options.parse_file, metavar="PATH")] = None,
    published_model: Annotated[str | None, typer.Option(help=SAME)] = None,
    include_path: Annotated[Path | None, typer.Option(help=FOLDER, parser=options.parse_file, metavar="PATH")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help=LIMIT)] = None,
    out: options.ResultsFolder = Path("reproduced"),
    batch: Annotated[int, typer.Option(min=1, help="Prompts that are answered at a time.")] = 1,
    positions: options.Positions = options.PositionsChoice.original,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer where a task sets none.")] = 128,
    as_json: options.Json = False,
    *,
    loading: LoadOptions,
) -> None:
    """Run public benchmarks through lmms-eval, and print the scores beside those that papers print."""
    from foveate.apps.reproduce import arms, report, run
    from foveate.apps.reproduce.published import read_published
    from foveate.apps.results import read_commit, read_versions
    from foveate.runtime.load import load, quiet
    from foveate.runtime.warnings import collect_warnings

    chosen, names, numbers = arms.make_arms(methods, keep), arms.split_names(benchmarks), read_published(published)
    run.import_lmms()
    answering: dict[str, Any] = {"positions": positions.value, "max_new_tokens": max_new_tokens}
    decisive = {  # everything that decides an answer
        "application": "foveate reproduce", "model": model, "include_path": include_path and str(include_path),
        "limit": limit, "batch": batch, **answering, "loading": loading.to_record(),
        "versions": read_versions("lmms-eval", "datasets"), "commit": read_commit(),
    }  # fmt: skip
    with quiet(), collect_warnings() as warned:
        records = run.reproduce(
            partial(load, model, **vars(loading)), chosen, names, out, settings=decisive, folder=include_path,
            batch=batch, limit=limit, **answering,
        )  # fmt: skip
    rows = report.compare(records, numbers, published_model or model)
    notes = [*report.list_notes(rows, published_model or model, limit), *console.limit_notes(warned)]
    console.print_notes(notes)
    about = {
        "command": _make_command(decisive, {"benchmarks": names, "methods": methods, "keep": keep}),
        "benchmarks": names, "published_model": published_model or model, "settings": decisive, "notes": notes,
    }  # fmt: skip
    _write(rows, about, out, as_json=as_json)


def _make_command(decisive: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    """The command that gives the same scores."""
    names = ("model", "include_path", "limit", "batch", "positions", "max_new_tokens")
    values = {**{name: decisive[name] for name in names}, **decisive["loading"], **chosen}
    texts = {name: ",".join(value) if isinstance(value, list) else value for name, value in values.items()}
    words = [(f"--{name.replace('_', '-')}", str(text)) for name, text in texts.items() if text is not None]
    return shlex.join(["foveate", "reproduce", *(word for pair in words for word in pair)])


def _write(rows: Sequence[ReproducedScore], about: dict[str, Any], out: Path, *, as_json: bool) -> None:
    """Write report.json and report.md, and print the latter, even where they cannot be written."""
    from foveate.apps.reproduce import report
    from foveate.apps.results import write_file

    text, record = report.to_markdown(rows, about), {**about, "scores": [row.to_record() for row in rows]}
    try:
        write_file(out / "report.json", json.dumps(record, indent=1) + "\n")
        write_file(out / "report.md", text)
    finally:
        print(text)
        if as_json:
            print(json.dumps(record))
