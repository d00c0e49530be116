"""The file of answers: what a run that was killed left there, checked line by line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveate.errors import InputError

Row = dict[str, Any]
"""One answer: id, task, arm, name, keep, question, expected, answer, right, kept, tokens, total, seconds, measures.

`right` is what the metric says: true or false, or a number from 0 to 1.
"""
RESULTS: dict[str, type | tuple[type, ...]] = {
    "answer": str, "right": (bool, int, float), "kept": (list, type(None)), "tokens": (int, float), "total": int,
    "seconds": (int, float),
}  # fmt: skip
ENCODED = "encoded"
"""Of an arm that leaves out tiles: the share of the image that was encoded, beside the results of every arm."""
RowKey = tuple[str, str]
"""The question's id and the arm's label."""


def read_answers(
    path: Path, heads: Mapping[RowKey, Row], measures: Mapping[str, Mapping[str, type]]
) -> dict[RowKey, Row]:
    """The rows in the file; a last line without its end is left out, as a killed run leaves it.

    `heads` are the fields of every possible row that are known before it is answered, `measures` the types of further
    ones, by the arm's label. Raises `InputError` for a line
    that is damaged, blank, or no answer of this run, and changes nothing then.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}): give another folder for the results.") from error
    rows, damaged = dict[RowKey, Row](), list[int]()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            key = (row["id"], row["arm"])
            if not _is_answer(row, heads[key], measures.get(key[1], {})):
                raise ValueError("another question, or no answer")
            rows[key] = row
        except (ValueError, TypeError, KeyError, RecursionError):
            damaged.append(number)
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise InputError(
            f"Line {damaged[0]}{more} of {path} is damaged, blank or no answer of this run: delete the line and run "
            "the same command again, which answers its batch again."
        )
    return rows


def _is_answer(row: Row, head: Row, measures: Mapping[str, type]) -> bool:
    results = {**RESULTS, **measures}
    is_complete = row.keys() == head.keys() | results.keys() and all(row[name] == head[name] for name in head)
    return is_complete and all(isinstance(row[name], kind) for name, kind in results.items())
