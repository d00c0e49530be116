"""`foveate methods`, `foveate families` and `foveate doctor`."""

import dataclasses
import json
from typing import Annotated

import typer

from foveate.apps import console
from foveate.apps.cli import options
from foveate.apps.cli.loading import takes_load_options
from foveate.errors import InputError
from foveate.runtime.load_options import LoadOptions

LABELS = {"holds": "pass", "violated": "FAIL", "error": "ERROR"}


@options.app.command()
def methods(as_json: options.Json = False) -> None:
    """List the methods that select tokens."""
    import foveate

    console.print_rows("Methods", [dataclasses.asdict(row) for row in foveate.methods()], as_json)


@options.app.command()
def families(as_json: options.Json = False) -> None:
    """List every image-text-to-text model of transformers: supported, not applicable, or not yet, and why."""
    import foveate

    console.print_rows("Families", [dataclasses.asdict(row) for row in foveate.families()], as_json)


@options.app.command()
@takes_load_options
def doctor(
    model: Annotated[str | None, typer.Option(help="The model to check, as in `ask`.")] = None,
    as_json: options.Json = False,
    *,
    loading: LoadOptions,
) -> None:
    """Check the laws of pruning on this installation: on a tiny model of every family, or on your own model."""
    from foveate.apps.results import read_versions
    from foveate.conformance import laws
    from foveate.models.lookup import available
    from foveate.runtime.load import load, quiet

    if model is None and loading != LoadOptions():
        raise InputError(f"{next(iter(loading.to_record()))} is an option of a model: give --model too.")
    versions = read_versions()
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    rows = []
    with quiet():
        for subject in available() if model is None else [model]:
            results = laws.check_family(subject) if model is None else laws.check(load(model, **vars(loading)).model)
            for law in results:
                rows.append({"model": subject, **dataclasses.asdict(law), "passed": law.passed})
                print(f"{LABELS[law.status]}  {subject}: {law.name}: {' '.join(law.figure.split())}")
    passed = all(row["passed"] for row in rows)
    failed = "Some laws are violated or could not be run: please report this with the lines above."
    print("All laws hold." if passed else failed)
    if as_json:
        print(json.dumps({"versions": versions, "passed": passed, "laws": rows}))
    raise typer.Exit(0 if passed else 1)
