"""The run: every arm answers the same questions, batch by batch, and answers are on disk before the next ones."""

import json
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from foveate.apps.evaluate.answers import Row, RowKey, read_answers
from foveate.apps.evaluate.arms import EvalArm, PrunedEvalArm
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.examples import EvalExample
from foveate.apps.evaluate.media import check_clips
from foveate.apps.evaluate.metrics import Metric, match_exact
from foveate.apps.results import RUN, append_file, claim_folder, make_progress, open_folder, write_file
from foveate.errors import FoveateWarning, InputError, ModelError
from foveate.runtime.loaded import LoadedModel

ANSWERS = "answers.jsonl"


def evaluate(
    loaded: LoadedModel, examples: Sequence[EvalExample], arms: Sequence[EvalArm], *, batch: int = 16,
    out: Path | None = None, settings: dict[str, Any] | None = None, metric: Metric = match_exact,
    extends: Collection[str] = (),
) -> list[Row]:  # fmt: skip
    """Let every arm answer every example; returns one row for each arm and question, in that order.

    With `out` (a folder), the rows of a batch are appended to its `answers.jsonl` as soon as the batch is answered. A
    run that was killed continues when it is called again with the same `settings`, or with others in what `extends`
    names: it answers what has no row, so that no question is lost or doubled. `metric` says how right an answer is.
    An optional arm that cannot run on the model is left out with a warning. Questions about clips are answered one at a
    time.

    Raises a `FoveateError` before the first question if another arm cannot run, or if `out` holds another run.
    """
    labels = Counter(arm.label for arm in arms)
    twice = [label for label, count in labels.items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]} is requested twice: leave one of them out.")
    can_run = {kind: _can_run(arm, loaded) for kind, arm in {arm.kind: arm for arm in arms}.items()}
    arms = [arm for arm in arms if can_run[arm.kind]]
    if examples[0].modality == "media":
        check_clips(loaded)
        batch = 1
    groups = [examples[i : i + batch] for i in range(0, len(examples), batch)]
    if out is None:
        rows = _answer_all(loaded, groups, arms, [], None, metric)
    else:
        with open_folder(out):
            known = _resume(out, examples, arms, settings or {}, extends)
            rows = _answer_all(loaded, groups, arms, known, out / ANSWERS, metric)
    order = {label: i for i, label in enumerate(labels)}
    position = {example.id: i for i, example in enumerate(examples)}
    return sorted(rows, key=lambda row: (order[row["arm"]], position[row["id"]]))


def _answer_all(
    loaded: LoadedModel, groups: Sequence[Sequence[EvalExample]], arms: Sequence[EvalArm], rows: list[Row],
    log: Path | None, metric: Metric,
) -> list[Row]:  # fmt: skip
    """All rows, those in `rows` unchanged; the others are appended to `log`, batch by batch."""
    done = {(row["id"], row["arm"]) for row in rows}
    methods = [arm.method for arm in arms if isinstance(arm, PrunedEvalArm)]
    with make_progress() as bar:
        task = bar.add_task("questions", total=sum(map(len, groups)))
        for group in groups:
            for part, todo in _list_todo(group, arms, done):
                shared = EvalBatch(loaded, part, methods)
                for arm in todo:
                    new = list(_answer(arm, shared, metric))
                    if log:
                        append_file(log, _to_text(new))
                    rows += new
            bar.advance(task, len(group))
    return rows


def _list_todo(
    group: Sequence[EvalExample], arms: Sequence[EvalArm], done: Collection[RowKey]
) -> list[tuple[list[EvalExample], list[EvalArm]]]:
    """The examples that have no row, with the arms that all of them lack."""
    todo: dict[tuple[str, ...], list[EvalArm]] = {}
    for arm in arms:
        lacking = tuple(example.id for example in group if (example.id, arm.label) not in done)
        todo.setdefault(lacking, []).append(arm)
    return [([example for example in group if example.id in ids], lack) for ids, lack in todo.items() if ids]


def _can_run(arm: EvalArm, loaded: LoadedModel) -> bool:
    """False, with a warning, for an optional arm that cannot run; raises for other arms."""
    try:
        arm.check(loaded)
    except ModelError as error:
        if not arm.optional:
            raise
        warnings.warn(f"{arm.name} was left out: {error}", FoveateWarning, stacklevel=3)
        return False
    return True


def _answer(arm: EvalArm, batch: EvalBatch, metric: Metric) -> Iterator[Row]:
    result = arm.answer(batch)
    for i, example in enumerate(batch.examples):
        yield {
            **_make_head(arm, example), "answer": result.answers[i],
            "right": metric(result.answers[i], example.answers), "kept": result.kept[i],
            "tokens": result.counts[i], "total": batch.sizes[i], "seconds": round(result.seconds, 6),
            **(result.measures[i] if result.measures else {}),
        }  # fmt: skip


def _make_head(arm: EvalArm, example: EvalExample) -> Row:
    """The fields of a row that are known before it is answered."""
    return {
        "id": example.id, "task": example.task, "arm": arm.label, "name": arm.name, "keep": arm.keep,
        "question": example.question, "expected": list(example.answers),
    }  # fmt: skip


def _resume(
    out: Path, examples: Sequence[EvalExample], arms: Sequence[EvalArm], settings: Row, extends: Collection[str]
) -> list[Row]:
    """The rows in the folder; a last line without its end is deleted from the file."""
    log = out / ANSWERS
    if log.exists() and not (out / RUN).exists():
        raise InputError(f"{out} holds answers without their {RUN}: give another folder.")
    heads = {(example.id, arm.label): _make_head(arm, example) for example in examples for arm in arms}
    measures = {arm.label: arm.measures for arm in arms}
    if extends:
        read_answers(log, heads, measures)  # before the record of the run changes
    claim_folder(out, settings, extends)
    rows = list(read_answers(log, heads, measures).values())
    complete = _to_text(rows)
    if not log.exists() or len(complete) != log.stat().st_size:
        write_file(log, complete)
    return rows


def _to_text(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
