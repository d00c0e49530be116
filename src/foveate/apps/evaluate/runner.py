"""The run: every arm answers the same questions, batch by batch, and every answer is on disk before the next."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from foveate.apps.evaluate.arms import EvalArm, EvalBatch, PrunedEvalArm
from foveate.apps.evaluate.examples import EvalExample, is_right
from foveate.apps.results import claim_folder, make_progress, write_file
from foveate.errors import InputError
from foveate.runtime.load import LoadedModel

Row = dict[str, Any]
"""One answer: id, task, arm, name, keep, question, expected, answer, right, kept, tokens, total, seconds."""
ANSWERS = "answers.jsonl"


def evaluate(
    loaded: LoadedModel, examples: Sequence[EvalExample], arms: Sequence[EvalArm], *, batch: int = 16,
    out: Path | None = None, settings: dict[str, Any] | None = None,
) -> list[Row]:  # fmt: skip
    """Let every arm answer every example; returns one row a question and arm, in that order.

    With `out` (a folder), every row is a line of its `answers.jsonl` as soon as its batch is answered. A run that was
    killed goes on where it stopped when it is called again with the same `settings`; what a batch had not finished is
    asked again, so that no question is lost or doubled.

    Raises a `FoveateError` before the first question if an arm cannot be run on the model or `out` holds another run.
    """
    labels = Counter(arm.label for arm in arms)
    twice = [label for label, count in labels.items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]} is asked for twice: leave one of them out.")
    for arm in arms:
        arm.check(loaded)
    groups = [examples[i : i + batch] for i in range(0, len(examples), batch)]
    rows = _resume(out, groups, [arm.label for arm in arms], settings or {}) if out else []
    done = {(row["id"], row["arm"]) for row in rows}
    methods = [arm.method for arm in arms if isinstance(arm, PrunedEvalArm)]
    with make_progress() as bar:
        task = bar.add_task("questions", total=len(examples))
        for group in groups:
            todo = [arm for arm in arms if (group[0].id, arm.label) not in done]
            ready = EvalBatch(loaded, group, methods)
            for arm in todo:
                fresh = list(_answered(arm, ready))
                if out:
                    with (out / ANSWERS).open("a", encoding="utf-8") as log:
                        log.write("".join(json.dumps(row) + "\n" for row in fresh))
                rows += fresh
            bar.advance(task, len(group))
    order = {label: i for i, label in enumerate(labels)}
    place = {example.id: i for i, example in enumerate(examples)}
    return sorted(rows, key=lambda row: (order[row["arm"]], place[row["id"]]))


def _answered(arm: EvalArm, batch: EvalBatch) -> Iterator[Row]:
    given = arm.answer(batch)
    for i, example in enumerate(batch.examples):
        yield {
            "id": example.id, "task": example.task, "arm": arm.label, "name": arm.name, "keep": arm.keep,
            "question": example.question, "expected": list(example.answers), "answer": given.answers[i],
            "right": is_right(given.answers[i], example.answers), "kept": given.kept[i], "tokens": given.counts[i],
            "total": batch.sizes[i], "seconds": round(given.seconds, 6),
        }  # fmt: skip


def _resume(out: Path, groups: Sequence[Sequence[EvalExample]], labels: Sequence[str], settings: Row) -> list[Row]:
    """The rows of all batches that are whole; the file is cut down to them."""
    claim_folder(out, settings)
    rows = list(_lines(out / ANSWERS))
    by_key = {(row["id"], row["arm"]): row for row in rows}
    whole = [
        by_key[example.id, label]
        for group, label in itertools.product(groups, labels)
        if all((example.id, label) in by_key for example in group)
        for example in group
    ]
    if len(whole) != len(rows) or not (out / ANSWERS).exists() or _torn(out / ANSWERS):
        write_file(out / ANSWERS, "".join(json.dumps(row) + "\n" for row in whole))
    return whole


def _torn(path: Path) -> bool:
    return bool(path.stat().st_size) and not path.read_bytes().endswith(b"\n")


def _lines(path: Path) -> Iterator[Row]:
    """The rows of a file whose last line may be torn."""
    if path.exists():
        with path.open(encoding="utf-8") as log:
            for line in log:
                if line.endswith("\n"):
                    yield json.loads(line)
