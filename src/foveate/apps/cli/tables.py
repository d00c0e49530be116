"""`foveate methods`, `foveate families` and `foveate doctor`."""

import dataclasses
import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from foveate.apps import console
from foveate.apps.cli import options
from foveate.apps.cli.loading import takes_load_options
from foveate.errors import InputError
from foveate.runtime.load_options import LoadOptions

LABELS = {"holds": "pass", "violated": "FAIL", "error": "ERROR"}
FAILED = (
    "Some laws are violated or could not be run. FAIL: the logits of a pruned prompt differ from those of the model "
    "with these tokens masked by more than rounding, or the prompt is read wrongly, so answers under pruning may be "
    "wrong. ERROR: the law could not be run. Do not prune this model here; please report this with the lines above."
)


@options.app.command()
def methods(as_json: options.Json = False) -> None:
    """List the methods that select tokens."""
    import foveate

    rows = [dataclasses.asdict(row) for row in foveate.methods()]
    if not as_json:  # few columns, so that 80 characters are enough for whole words
        rows = [
            {
                "name": row["name"],
                "paper": row["paper"],
                "keeps": row["summary"],
                "prompt": row["prompt_aware"],
                "where": ", ".join([row["prunes"], *(f"needs {extra}" for extra in row["needs"])]),
            }
            for row in rows
        ]
    console.print_rows("Methods", rows, as_json)


@options.app.command()
def families(
    text: Annotated[str, typer.Argument(help="Only models whose type has this in it, such as qwen.")] = "",
    as_json: options.Json = False,
) -> None:
    """List every image-text-to-text model of transformers: supported, not applicable, or not yet, and why."""
    import foveate

    rows = [dataclasses.asdict(row) for row in foveate.families() if text.lower() in row.model_type]
    if not rows:
        raise InputError(f"No model type of transformers has {text!r} in it: foveate families lists all of them.")
    if not as_json:  # the architecture is left out, so that 80 columns are enough
        rows = [{"model_type": row["model_type"], "status": row["status"], "notes": _join_notes(row)} for row in rows]
    console.print_rows("Families", rows, as_json)


def _join_notes(row: dict[str, Any]) -> str:
    """What a family takes, what is special about it and which transformers it needs."""
    versions = f"transformers {row['versions']}" if row["versions"] else ""
    return "; ".join(part for part in (", ".join(row["modalities"]), row["note"], versions) if part)


@options.app.command()
@takes_load_options
def doctor(
    model: Annotated[str | None, typer.Option(help="The model to check, as in `ask`.")] = None,
    family: Annotated[str | None, typer.Option(help="Check a tiny model of this model type alone.")] = None,
    as_json: options.Json = False,
    *,
    loading: LoadOptions,
) -> None:
    """Check the laws of pruning on this installation: on a tiny model of every family, or on your own model.

    With --model, also what its own processor and chat template make of two drawn images: tokens, tiles, question.
    """
    from foveate.apps.doctor import check_prompts
    from foveate.apps.results import read_versions
    from foveate.conformance import laws
    from foveate.models.lookup import available, family as find_family
    from foveate.runtime.load import load, quiet

    if model is None and loading != LoadOptions():
        raise InputError(f"{next(iter(loading.to_record()))} is an option of a model: give --model too.")
    if model is not None and family is not None:
        raise InputError("--model and --family are two checks: give one of them.")
    if family is not None:
        find_family(family)
    versions, rows = read_versions(), list[dict[str, Any]]()
    print(", ".join(f"{name} {version}" for name, version in versions.items()))

    def show(subject: str, results: Iterable[laws.LawResult]) -> None:
        for law in results:
            rows.append({"model": subject, **dataclasses.asdict(law), "passed": law.passed})
            print(f"{LABELS[law.status]}  {subject}: {law.name}: {' '.join(law.figure.split())}", flush=True)

    with quiet():
        if model is not None:
            loaded = load(model, **vars(loading))
            show(model, laws.run_laws(loaded.model))
            show(model, check_prompts(loaded))
        else:
            names = [family] if family else available()
            for number, name in enumerate(names, start=1):
                print(f"{name} ({number} of {len(names)})")
                show(name, laws.check_family(name))
    passed = all(row["passed"] for row in rows)
    print("All laws hold." if passed else FAILED)
    if as_json:
        print(json.dumps({"versions": versions, "passed": passed, "laws": rows}))
    raise typer.Exit(0 if passed else 1)
