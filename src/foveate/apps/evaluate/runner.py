"""The run: every arm answers the same questions, batch by batch, and answers are on disk before the next ones."""

import itertools
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from foveate.apps.evaluate.answers import Row, read_answers
from foveate.apps.evaluate.arms import EvalArm, PrunedEvalArm
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.examples import EvalExample, is_right
from foveate.apps.results import RUN, append_file, claim_folder, make_progress, open_folder, write_file
from foveate.errors import FoveateWarning, InputError, ModelError
from foveate.runtime.load import LoadedModel

ANSWERS = "answers.jsonl"


def evaluate(
    loaded: LoadedModel, examples: Sequence[EvalExample], arms: Sequence[EvalArm], *, batch: int = 16,
    out: Path | None = None, settings: dict[str, Any] | None = None,
) -> list[Row]:  # fmt: skip
    """Let every arm answer every example; returns one row for each arm and question, in that order.

    With `out` (a folder), the rows of a batch are appended to its `answers.jsonl` as soon as the batch is answered. A
    run that was killed continues when it is called again with the same `settings`: it repeats unfinished batches, so
    that no question is lost or doubled. An optional arm that cannot run on the model is left out with a warning.

    Raises a `FoveateError` before the first question if another arm cannot run, or if `out` holds another run.
    """
    labels = Counter(arm.label for arm in arms)
    twice = [label for label, count in labels.items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]} is requested twice: leave one of them out.")
    can_run = {kind: _can_run(arm, loaded) for kind, arm in {arm.kind: arm for arm in arms}.items()}
    arms = [arm for arm in arms if can_run[arm.kind]]
    groups = [examples[i : i + batch] for i in range(0, len(examples), batch)]
    if out is None:
        rows = _answer_all(loaded, groups, arms, [], None)
    else:
        with open_folder(out):
            rows = _answer_all(loaded, groups, arms, _resume(out, groups, arms, settings or {}), out / ANSWERS)
    order = {label: i for i, label in enumerate(labels)}
    position = {example.id: i for i, example in enumerate(examples)}
    return sorted(rows, key=lambda row: (order[row["arm"]], position[row["id"]]))


def _answer_all(
    loaded: LoadedModel, groups: Sequence[Sequence[EvalExample]], arms: Sequence[EvalArm], rows: list[Row],
    log: Path | None,
) -> list[Row]:  # fmt: skip
    """All rows, those in `rows` unchanged; the others are appended to `log`, batch by batch."""
    done = {(row["id"], row["arm"]) for row in rows}
    methods = [arm.method for arm in arms if isinstance(arm, PrunedEvalArm)]
    with make_progress() as bar:
        task = bar.add_task("questions", total=sum(map(len, groups)))
        for group in groups:
            todo = [arm for arm in arms if (group[0].id, arm.label) not in done]
            shared = EvalBatch(loaded, group, methods)
            for arm in todo:
                new = list(_answer(arm, shared))
                if log:
                    append_file(log, _to_text(new))
                rows += new
            bar.advance(task, len(group))
    return rows


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


def _answer(arm: EvalArm, batch: EvalBatch) -> Iterator[Row]:
    result = arm.answer(batch)
    for i, example in enumerate(batch.examples):
        yield {
            **_make_head(arm, example), "answer": result.answers[i],
            "right": is_right(result.answers[i], example.answers), "kept": result.kept[i],
            "tokens": result.counts[i], "total": batch.sizes[i], "seconds": round(result.seconds, 6),
            **(result.measures[i] if result.measures else {}),
        }  # fmt: skip


def _make_head(arm: EvalArm, example: EvalExample) -> Row:
    """The fields of a row that are known before it is answered."""
    return {
        "id": example.id, "task": example.task, "arm": arm.label, "name": arm.name, "keep": arm.keep,
        "question": example.question, "expected": list(example.answers),
    }  # fmt: skip


def _resume(out: Path, groups: Sequence[Sequence[EvalExample]], arms: Sequence[EvalArm], settings: Row) -> list[Row]:
    """The rows of all complete batches; rows of other batches are deleted from the file."""
    log = out / ANSWERS
    if log.exists() and not (out / RUN).exists():
        raise InputError(f"{out} holds answers without their {RUN}: give another folder.")
    claim_folder(out, settings)
    heads = {(each.id, arm.label): _make_head(arm, each) for group in groups for each in group for arm in arms}
    by_key = read_answers(log, heads, {arm.label: arm.measures for arm in arms})
    rows = [
        by_key[example.id, arm.label]
        for group, arm in itertools.product(groups, arms)
        if all((example.id, arm.label) in by_key for example in group)
        for example in group
    ]
    complete = _to_text(rows)
    if not log.exists() or len(complete) != log.stat().st_size:
        write_file(log, complete)
    return rows


def _to_text(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
