"""The run: every arm answers every benchmark, and what is on disk is not answered again."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.apps.reproduce.arms import LmmsArm
from foveate.apps.results import RUN, claim_folder, make_folder, make_progress, open_folder, write_file
from foveate.errors import FoveateError, FoveateWarning, InputError
from foveate.runtime.loaded import LoadedModel

if TYPE_CHECKING:
    from foveate.integrations.lmms import FoveateLmms
    from foveate.integrations.lmms_run import LmmsResult, LmmsTasks

ANSWERS = "answers"  # a folder for each arm, in it two files for each benchmark
TASKS = "tasks"
Record = dict[str, Any]
"""An arm's results on a benchmark, with these fields; each of the metrics has value, low and high."""
FIELDS = ("arm", "method", "keep", "benchmark", "task", "questions", "input_tokens", "seconds", "metrics")


def reproduce(
    load_model: Callable[[], LoadedModel], arms: Sequence[LmmsArm], benchmarks: Sequence[str], out: Path, *,
    settings: Mapping[str, Any], folder: Path | None = None, batch: int = 1, limit: int | None = None,
    **options: Any,
) -> list[Record]:  # fmt: skip
    """Let every arm answer every benchmark through lmms-eval; returns the records, arm by arm.

    A benchmark's answers of an arm are written as soon as they are complete. A run that was killed goes on when it is
    called again with the same `settings`, and may have other arms and benchmarks than before.

    Args:
        load_model: Called once, unless there is nothing left to answer.
        arms: An optional one that the model cannot run is left out with a warning.
        benchmarks: lmms-eval's names of tasks.
        out: The folder of the results.
        settings: What decides the answers.
        folder: More tasks, in lmms-eval's format.
        batch: How many prompts are answered at a time.
        limit: Only the first questions of each benchmark, so many.
        options: Those of `FoveateLmms`.

    Raises:
        FoveateError: A benchmark is unknown, an arm cannot run, lmms-eval is missing, or `out` holds another run.
    """
    lmms = import_lmms()
    if folder is not None and not folder.is_dir():
        raise InputError(f"There is no folder {folder}: check the path.")
    with open_folder(out):
        if (out / ANSWERS).exists() and not (out / RUN).exists():
            raise InputError(f"{out} holds answers without their {RUN}: give another folder.")
        claim_folder(out, settings)
        lmms.write_ocr_task(out / TASKS)
        tasks = lmms.LmmsTasks([out / TASKS, *([folder] if folder else [])])
        names = {benchmark: tasks.find(benchmark) for benchmark in benchmarks}
        known = {(arm, each): _read(_place(out, arm, each)) for arm in arms for each in benchmarks}
        if None in known.values():
            missing = [(arm, [each for each in benchmarks if known[arm, each] is None]) for arm in arms]
            models = _make_models(load_model(), [arm for arm, todo in missing if todo], batch_size=batch, **options)
            with make_progress() as bar:
                line = bar.add_task("benchmarks", total=sum(len(todo) for arm, todo in missing if arm in models))
                for arm, todo in missing:
                    for each in todo if arm in models else ():
                        bar.update(line, description=f"{arm.label}, {each}")
                        known[arm, each] = _answer(models[arm], arm, each, names[each], tasks, out, limit)
                        bar.advance(line)
    return [record for record in known.values() if record is not None]


def import_lmms() -> Any:
    """The module that runs lmms-eval. Raises `InputError` if it is not installed."""
    try:
        from foveate.integrations import lmms_run
    except ImportError as error:
        raise InputError(
            f"foveate reproduce runs lmms-eval, which cannot be imported ({error}): pip install 'foveate[lmms]'."
        ) from error
    return lmms_run


def _make_models(loaded: LoadedModel, arms: Sequence[LmmsArm], **options: Any) -> dict[LmmsArm, FoveateLmms]:
    """The model with each arm's settings; all are checked before the first question."""
    from foveate.integrations.lmms import FoveateLmms

    models = {}
    for arm in arms:
        keep = 1.0 if arm.keep is None else arm.keep
        try:
            models[arm] = FoveateLmms(loaded, keep=keep, method=arm.method, **options)
        except FoveateError as error:
            if not arm.optional:
                raise
            warnings.warn(f"{arm.name} was left out: {error}", FoveateWarning, stacklevel=3)
    return models


def _answer(
    model: FoveateLmms, arm: LmmsArm, benchmark: str, task: str, tasks: LmmsTasks, out: Path, limit: int | None
) -> Record:  # fmt: skip
    """Answer the benchmark, and write the samples, then the record."""
    started = time.perf_counter()
    place = _place(out, arm, benchmark)
    make_folder(place.parent)
    result: LmmsResult = import_lmms().run_task(model, tasks, task, limit=limit, out=place.parent)
    values = (
        arm.label, arm.name, arm.keep, benchmark, task, len(result.samples),
        round(result.count_input_tokens(), 3), round(time.perf_counter() - started, 3),
        {name: vars(score) for name, score in result.metrics.items()},
    )  # fmt: skip
    record = dict(zip(FIELDS, values, strict=True))
    write_file(place.with_suffix(".jsonl"), result.format_samples())
    write_file(place, json.dumps(record, indent=1) + "\n")
    return record


def _place(out: Path, arm: LmmsArm, benchmark: str) -> Path:
    return out / ANSWERS / arm.folder / f"{benchmark}.json"


def _read(path: Path) -> Record | None:
    """The record in the file; None if there is no file. Raises `InputError` for a damaged one."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or set(record) != set(FIELDS):
            raise ValueError("fields are missing")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it, and it is answered again.") from error
    return record
