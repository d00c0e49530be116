"""`foveate doctor`."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from foveate.apps.cli.options import Json, app

LABELS = {"holds": "pass", "violated": "FAIL", "error": "ERROR"}


@app.command()
def doctor(
    model: Annotated[str | None, typer.Option(help="The model to check, as in `ask`.")] = None,
    as_json: Json = False,
) -> None:
    """Check the laws of pruning on this installation: on a tiny model of every family, or on your own model."""
    from foveate.apps.results import read_versions
    from foveate.conformance import laws
    from foveate.models.lookup import available
    from foveate.runtime.load import load, quiet

    versions = read_versions()
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    rows = []
    with quiet():
        for subject in available() if model is None else [model]:
            results = laws.check_family(subject) if model is None else laws.check(load(model).model)
            for law in results:
                rows.append({"model": subject, **dataclasses.asdict(law), "passed": law.passed})
                print(f"{LABELS[law.status]}  {subject}: {law.name}: {' '.join(law.figure.split())}")
    passed = all(row["passed"] for row in rows)
    failed = "Some laws are violated or could not be run: please report this with the lines above."
    print("All laws hold." if passed else failed)
    if as_json:
        print(json.dumps({"versions": versions, "passed": passed, "laws": rows}))
    raise typer.Exit(0 if passed else 1)
