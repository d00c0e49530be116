"""The folder of the answers: a shard is there as a whole, or not at all."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Count:
    """Rows of a shard that were answered, and rows that were set aside."""

    answered: int
    bad: int


def answers_of(shard: int) -> str:
    """The file of a shard's answers. It may be empty, and is written last: with it the shard is done."""
    return f"part-{shard:06d}.jsonl"


def bad_of(shard: int) -> str:
    """The file of a shard's rows that could not be answered, if there are any."""
    return f"bad-{shard:06d}.jsonl"


def attempts_at(shard: int) -> str:
    """The file that grows by a byte whenever a worker begins with a shard."""
    return f"attempts-{shard:06d}{PART}"


def write(out: Path, shard: int, answers: Sequence[Line], bad: Sequence[Line]) -> None:
    """Put a shard there. Done twice, even at the same time, it is there once. Raises `OSError` as the disk does."""
    beside = f".{uuid.uuid4().hex}{PART}"
    if bad:
        write_file(out / bad_of(shard), _text(bad), beside)
    else:
        (out / bad_of(shard)).unlink(missing_ok=True)
    write_file(out / answers_of(shard), _text(answers), beside)
    (out / attempts_at(shard)).unlink(missing_ok=True)


def attempt(out: Path, shard: int) -> int:
    """Note down that a worker is at a shard, and say the how manieth time since `clear`. Raises `OSError`."""
    with (out / attempts_at(shard)).open("ab") as file:
        file.write(b".")
        return file.tell()


def check(out: Path) -> None:
    """Raise `InputError` for answers of which nobody knows what decided them."""
    if not (out / RUN).exists() and any(out.glob("part-*.jsonl")):
        raise InputError(f"{out} holds answers without their {RUN}: give another folder.")


def counts(out: Path, shards: Iterable[Shard]) -> dict[int, Count]:
    """The shards that are whole, by number: every row of theirs is either answered or set aside."""
    there = {entry.name for entry in os.scandir(out)}
    found = {}
    for shard in shards:
        if answers_of(shard.number) in there:
            answered, bad = (
                _lines(out / name) if name in there else 0 for name in (answers_of(shard.number), bad_of(shard.number))
            )
            if answered + bad == shard.rows:
                found[shard.number] = Count(answered, bad)
    return found


def reason(out: Path, shard: Shard) -> str:
    """Why the shard's first row that was set aside could not be answered."""
    with (out / bad_of(shard.number)).open(encoding="utf-8") as file:
        return str(json.loads(file.readline())["reason"])


def clear(out: Path) -> None:
    """Remove what is not part of the answers: attempts, and what writers that were killed left behind."""
    for left in out.glob(f"*{PART}"):
        left.unlink(missing_ok=True)


def _text(lines: Sequence[Line]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")
