"""The run: every arm answers the same questions, batch by batch, and every answer is on disk before the next."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from foveate.apps.evaluate.arms import Arm, Batch, Pruned
from foveate.apps.evaluate.examples import Example, is_right
from foveate.errors import InputError
from foveate.runtime.load import Loaded

Row = dict[str, Any]
"""One answer: id, task, arm, name, keep, question, expected, answer, right, kept, tokens, total, seconds."""
ANSWERS, RUN = "answers.jsonl", "run.json"
PART = ".part"  # how the name of an unfinished file ends


def evaluate(
    loaded: Loaded, examples: Sequence[Example], arms: Sequence[Arm], *, batch: int = 16, out: Path | None = None,
    settings: dict[str, Any] | None = None,
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
    methods = [arm.method for arm in arms if isinstance(arm, Pruned)]
    with progress() as bar:
        task = bar.add_task("questions", total=len(examples))
        for group in groups:
            todo = [arm for arm in arms if (group[0].id, arm.label) not in done]
            ready = Batch(loaded, group, methods)
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


def _answered(arm: Arm, batch: Batch) -> Iterator[Row]:
    given = arm.answer(batch)
    for i, example in enumerate(batch.examples):
        yield {
            "id": example.id, "task": example.task, "arm": arm.label, "name": arm.name, "keep": arm.keep,
            "question": example.question, "expected": list(example.answers), "answer": given.answers[i],
            "right": is_right(given.answers[i], example.answers), "kept": given.kept[i], "tokens": given.counts[i],
            "total": batch.sizes[i], "seconds": round(given.seconds, 6),
        }  # fmt: skip


def make_folder(path: Path) -> None:
    """Raise `InputError` if results cannot be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be used ({error}): give another folder for the results.") from error


def claim(out: Path, settings: Row) -> None:
    """Make the folder and leave the run's settings in it, or find them there.

    Raises `InputError` if it cannot be used, or holds a run with other settings.
    """
    header = out / RUN
    make_folder(out)
    try:
        known = json.loads(header.read_text()) if header.exists() else settings
        if known is settings:
            write_whole(header, json.dumps(settings, indent=1) + "\n")
    except (OSError, ValueError) as error:
        raise InputError(f"{out} cannot be used ({error}): give another folder for the results.") from error
    for name in sorted({*known, *settings}):
        there, given = known.get(name), settings.get(name)
        if json.dumps(there, sort_keys=True) != json.dumps(given, sort_keys=True):  # 1 == 1.0, but not as a budget
            raise InputError(
                f"{out} holds a run with another {name} ({there!r}, not {given!r}): "
                "give another folder, or the same settings to go on."
            )


def _resume(out: Path, groups: Sequence[Sequence[Example]], labels: Sequence[str], settings: Row) -> list[Row]:
    """The rows of all batches that are whole; the file is cut down to them."""
    claim(out, settings)
    rows = list(_lines(out / ANSWERS))
    by_key = {(row["id"], row["arm"]): row for row in rows}
    whole = [
        by_key[example.id, label]
        for group, label in itertools.product(groups, labels)
        if all((example.id, label) in by_key for example in group)
        for example in group
    ]
    if len(whole) != len(rows) or not (out / ANSWERS).exists() or _torn(out / ANSWERS):
        write_whole(out / ANSWERS, "".join(json.dumps(row) + "\n" for row in whole))
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


def write_whole(path: Path, text: str, beside: str = PART) -> None:
    """Beside, then rename: neither a killed run nor a machine that goes down leaves half a file."""
    part = path.with_suffix(beside)
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def commit() -> str | None:
    """The commit of the sources that run, where they are a git checkout."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def progress() -> Progress:
    """A bar with an estimate of the time left; nothing off a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
