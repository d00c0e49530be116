"""Numbers that papers print: those of published.json, and those of a file of the user's own in the same form."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from foveate.errors import InputError

TEXTS = ("paper", "source", "table", "protocol", "model")


@dataclass(frozen=True)
class PublishedScore:
    """A number of a paper.

    Args:
        paper: Its name.
        source: Its address.
        table: Where in the paper the number stands.
        protocol: How the paper measured it.
        model: The hub id of the model.
        benchmark: As `foveate reproduce` names it.
        method: A method as in `--methods`, or "unpruned".
        keep: A number of tokens, a share of them, or None for the unpruned model.
        metric: lmms-eval's name of the metric.
        value: In percent.
    """

    paper: str
    source: str
    table: str
    protocol: str
    model: str
    benchmark: str
    method: str
    keep: int | float | None
    metric: str
    value: float

    @property
    def origin(self) -> tuple[str, str, str, str]:
        """What a reader needs to look the number up."""
        return self.paper, self.table, self.source, self.protocol


def read_published(path: Path | None = None) -> list[PublishedScore]:
    """The numbers of the package, then those of the file. Raises `InputError` if it is no table of such numbers."""
    shipped = files(__package__).joinpath("published.json").read_text(encoding="utf-8")
    scores = list(_read_tables(json.loads(shipped)))
    if path is None:
        return scores
    try:
        return scores + list(_read_tables(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no file of published numbers ({error}): docs/reproduce.md shows how one is written."
        ) from error


def _read_tables(record: Any) -> Iterator[PublishedScore]:
    """Raises `ValueError` that names the place of what is wrong."""
    tables = record.get("tables") if isinstance(record, dict) else None
    if not isinstance(tables, list):
        raise ValueError('it has no list of "tables"')
    for number, table in enumerate(tables, start=1):
        try:
            yield from _read_table(table)
        except KeyError as error:
            raise ValueError(f"table {number} has no {error}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"table {number}: {error}") from error


def _read_table(table: Any) -> Iterator[PublishedScore]:
    texts = {name: table[name] for name in TEXTS}
    for name, value in texts.items():
        if not isinstance(value, str) or not value:
            raise ValueError(f"{name} is no text")
    for row in table["rows"]:
        method, keep = row["method"], row["keep"]
        if (method == "unpruned") != (keep is None):
            raise ValueError(f"{method} has keep {keep}: null is for unpruned, a number for a method")
        for benchmark in row.keys() - {"method", "keep"}:
            metric, value = table["metrics"][benchmark], row[benchmark]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{benchmark} of {method} @ {keep} is no number")
            yield PublishedScore(
                **texts, benchmark=benchmark, method=method, keep=keep, metric=metric, value=float(value)
            )
