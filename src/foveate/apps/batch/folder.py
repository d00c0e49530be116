"""The folder of answers. The files of a shard appear when all of its rows are finished, never in part."""

import json
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.apps.batch.source import Shard
from foveate.apps.results import PART, RUN, write_file
from foveate.errors import InputError

Line = dict[str, Any]
ANSWERS = "part-{:06d}.jsonl"  # may be empty; it is written last, so that with it the shard is finished
BAD = "bad-{:06d}.jsonl"  # rows that could not be answered, if there are any
ATTEMPTS = "attempts-{:06d}" + PART  # grows by a byte whenever a worker begins with the shard


@dataclass(frozen=True)
class ShardCount:
    """Rows of a shard that were answered, and rows that were set aside."""

    answered: int
    bad: int


def write_shard(out: Path, shard: int, answers: Sequence[Line], bad: Sequence[Line]) -> None:
    """Write a finished shard. Two writers, even at the same time, leave one copy. Raises as `write_file` does."""
    suffix = f".{uuid.uuid4().hex}{PART}"
    if bad:
        write_file(out / BAD.format(shard), _to_text(bad), suffix)
    else:
        (out / BAD.format(shard)).unlink(missing_ok=True)
    write_file(out / ANSWERS.format(shard), _to_text(answers), suffix)
    (out / ATTEMPTS.format(shard)).unlink(missing_ok=True)


def record_attempt(out: Path, shard: int) -> int:
    """Record that a worker begins with a shard; return the number of attempts since `clean_up`. Raises `OSError`."""
    with (out / ATTEMPTS.format(shard)).open("ab") as file:
        file.write(b".")
        return file.tell()


def check_folder(out: Path) -> None:
    """Raise `InputError` for answers without the settings that they were made with."""
    if not (out / RUN).exists() and any(out.glob("part-*.jsonl")):
        raise InputError(f"{out} holds answers without their {RUN}: give another folder.")


def count_finished(out: Path, shards: Iterable[Shard]) -> dict[int, ShardCount]:
    """The finished shards by number: every row of theirs is either answered or set aside, once."""
    names = {entry.name for entry in os.scandir(out)}
    counts = {}
    for shard in shards:
        if ANSWERS.format(shard.number) in names:
            files = [name.format(shard.number) for name in (ANSWERS, BAD)]
            rows = [_read_rows(out / name) if name in names else [] for name in files]
            if sorted(rows[0] + rows[1]) == list(range(shard.first, shard.first + shard.rows)):
                counts[shard.number] = ShardCount(len(rows[0]), len(rows[1]))
    return counts


def find_damaged(out: Path, shards: Iterable[Shard]) -> list[str]:
    """The names of files of answers that exist, of shards that are not finished."""
    return [name for name in (ANSWERS.format(shard.number) for shard in shards) if (out / name).exists()]


def _read_rows(path: Path) -> list[int]:
    """The numbers of the rows in a file; [-1], which is no row, for one that is damaged."""
    try:
        return [int(json.loads(line)["row"]) for line in path.read_bytes().splitlines()]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return [-1]


def read_reason(out: Path, shard: Shard) -> str:
    """Why the first bad row of the shard could not be answered."""
    with (out / BAD.format(shard.number)).open(encoding="utf-8") as file:
        return str(json.loads(file.readline())["reason"])


def clean_up(out: Path) -> None:
    """Remove attempts, and unfinished files of writers that were killed."""
    for path in out.glob(f"*{PART}"):
        path.unlink(missing_ok=True)


def _to_text(lines: Sequence[Line]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)
