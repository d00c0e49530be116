"""The command line. Torch and transformers are imported by the commands that need them, so that `--help` is quick."""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from foveate.errors import FoveateError, InputError

if TYPE_CHECKING:
    from foveate.ask import Comparison, Cost

OVERLAY_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

app = typer.Typer(
    name="foveate", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Prune the visual tokens of a vision-language model with the question in hand.",
)  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON, last on standard output.")]
Model = Annotated[
    Optional[str],  # noqa: UP045  # typer reads the annotation at run time, on Python 3.10 too
    typer.Option("--model", help="A hub id or a folder; without it, the small bundled model.", metavar="ID_OR_FOLDER"),
]


class Positions(str, Enum):
    """The choices of `--positions`."""

    original = "original"
    compact = "compact"


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Prune the visual tokens of a vision-language model with the question in hand."""
    if version:
        from importlib.metadata import version as installed

        print(installed("foveate"))
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def ask(
    picture: Annotated[Path, typer.Argument(help="A picture file.", metavar="PICTURE")],
    question: Annotated[str, typer.Argument(help="What to ask about it.", metavar="QUESTION")],
    keep: Annotated[
        str,
        typer.Option(help="With a dot a share of the visual tokens (0.1, 1.0), without one a number (64; 1 is one token)."),
    ] = "0.1",
    method: Annotated[str, typer.Option(help="How to choose the tokens; see `foveate methods`.")] = "zspaprune",
    model: Model = None,
    positions: Annotated[Positions, typer.Option(help="Keep the tokens' positions, or renumber.")] = Positions.original,
    overlay: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Draw the kept tokens over the picture into this file.", metavar="PICTURE"),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length limit of the answers, in tokens.")] = 64,
    as_json: Json = False,
) -> None:
    """Answer a question about a picture, pruned and unpruned, with the time and the memory of both."""
    dial = parse_keep(keep)
    if overlay is not None:
        check_overlay(overlay)
    from foveate import viz
    from foveate.ask import ask as compare
    from foveate.load import load, quiet
    from foveate.method import resolve
    from foveate.picture import open_picture
    from foveate.tokens import check_keep

    check_keep(dial)
    chosen, image = resolve(method), open_picture(picture)
    with quiet():
        loaded = load(model)
        found = compare(
            loaded, image, question, keep=dial, method=chosen, positions=positions.value, max_new_tokens=max_new_tokens
        )
    print_comparison(found)
    if overlay is not None:
        seen = viz.seen_part(image, loaded.processor.image_processor)
        save(viz.draw(seen, found.report.kept[0], found.report.grids[0]), overlay)
        print(f"The kept tokens are drawn in {overlay}.")
    if as_json:
        print_json(as_record(found, keep=dial, model=loaded.name, overlay=overlay))


@app.command()
def methods(as_json: Json = False) -> None:
    """List the methods that choose tokens."""
    import foveate

    print_rows("Methods", [dataclasses.asdict(row) for row in foveate.methods()], as_json)


@app.command()
def families(as_json: Json = False) -> None:
    """List the supported model families."""
    import foveate

    print_rows("Families", [dataclasses.asdict(row) for row in foveate.families()], as_json)


@app.command()
def doctor(model: Model = None, as_json: Json = False) -> None:
    """Check the laws of pruning on this installation: on a tiny model of every family, or on your own model."""
    from foveate import laws
    from foveate.load import load, quiet
    from foveate.registry import FAMILIES

    versions = installed_versions()
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    rows = []
    with quiet():
        subjects = FAMILIES.names() if model is None else [model]
        for subject in subjects:
            results = laws.check_family(subject) if model is None else laws.check(load(model).model)
            for law in results:
                rows.append({"model": subject, **dataclasses.asdict(law)})
                print(f"{'pass' if law.passed else 'FAIL'}  {subject}: {law.name}: {law.figure}")
    passed = all(row["passed"] for row in rows)
    print("All laws hold." if passed else "Some laws do not hold: please report this with the lines above.")
    if as_json:
        print_json({"versions": versions, "passed": passed, "laws": rows})
    raise typer.Exit(0 if passed else 1)


# -- input ---------------------------------------------------------------------------------------------------------


def parse_keep(text: str) -> int | float:
    """A number of tokens, or with a dot (or an exponent) a share."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    raise InputError(f"--keep {text!r} is no number: give a share (0.1) or a number of tokens (64).")


def check_overlay(path: Path) -> None:
    """Before any work: a picture's suffix, in a folder that exists."""
    if path.suffix.lower() not in OVERLAY_SUFFIXES:
        raise InputError(f"--overlay {path} is no picture's name: let it end in one of {', '.join(OVERLAY_SUFFIXES)}.")
    if not path.parent.is_dir():
        raise InputError(f"--overlay {path}: there is no folder {path.parent}, create it first.")
    if path.is_dir():
        raise InputError(f"--overlay {path} is a folder: give a file name in it.")


# -- output --------------------------------------------------------------------------------------------------------


def save(image: Any, path: Path) -> None:
    """Write beside, then rename: whoever reads `path` never sees half a picture."""
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix.lower())
        os.close(handle)
        try:
            image.save(part)
            os.chmod(part, 0o666 & ~_umask())  # mkstemp's files are private
            os.replace(part, path)
        except BaseException:
            os.unlink(part)
            raise
    except OSError as error:
        raise InputError(f"--overlay {path} cannot be written ({error.strerror or error}): choose another place.") from error
