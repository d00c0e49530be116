"""`foveate methods` and `foveate families`."""

from __future__ import annotations

import dataclasses

from foveate.apps import console
from foveate.apps.cli.options import Json, app


@app.command()
def methods(as_json: Json = False) -> None:
    """List the methods that select tokens."""
    import foveate

    console.print_rows("Methods", [dataclasses.asdict(row) for row in foveate.methods()], as_json)


@app.command()
def families(as_json: Json = False) -> None:
    """List every image-text-to-text model of transformers: supported, not applicable, or not yet, and why."""
    import foveate

    console.print_rows("Families", [dataclasses.asdict(row) for row in foveate.families()], as_json)
