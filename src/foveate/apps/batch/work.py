"""A shard is answered: batch by batch, row by row where a batch fails, and every row that fails is set aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from PIL import Image

from foveate.apps.batch.engine import Engine, Reply, probe
from foveate.apps.batch.folder import Line
from foveate.apps.batch.source import Row, Shard, Source, name_of
from foveate.errors import FoveateError, InputError, ModelError


@dataclass(frozen=True)
class Asked:
    """A row that could be read."""

    number: int
    id: str | int
    row: Row
    picture: Image.Image


class Work:
    """Lines for the two files of a shard: `answers`, and `bad` rows with the reason; `note` on slow going, if any."""

    def __init__(self, engine: Engine, batch: int) -> None:
        self.answers: list[Line] = []
        self.bad: list[Line] = []
        self.note: str | None = None
        self._engine, self._batch = engine, batch

    def run(self, source: Source, shard: Shard) -> None:
        """Answer all rows of a shard, in order.

        Raises `InputError` if the file is no longer what was scanned, `ModelError` if the engine broke.
        """
        records = source.numbered(shard)
        while group := list(islice(records, self._batch)):
            ready = [asked for asked in (self._open(source, *each) for each in group) if asked is not None]
            for asked, reply in zip(ready, self._replies(ready), strict=True):
                if isinstance(reply, Reply):
                    line = {"row": asked.number, "id": asked.id, "question": asked.row.question, **asdict(reply)}
                    self.answers.append(line)
                else:
                    self._set_aside(asked.number, asked.id, reply)
        self.bad.sort(key=lambda line: int(line["row"]))

    def _open(self, source: Source, number: int, record: Any) -> Asked | None:
        name = name_of(record, number)
        try:
            row = source.read(record)
            return Asked(number, name, row, row.picture())
        except FoveateError as error:
            self._set_aside(number, name, str(error))
            return None

    def _set_aside(self, number: int, name: str | int, reason: str) -> None:
        self.bad.append({"row": number, "id": name, "reason": reason})

    def _replies(self, ready: Sequence[Asked]) -> list[Reply | str]:
        """A reply each, or the reason why there is none."""
        if not ready:
            return []
        try:
            return list(self._engine.answer([a.picture for a in ready], [a.row.question for a in ready]))
        except Exception as error:  # a processor or a model fed with something odd may raise anything
            reason, blamed = _reason(error), isinstance(error, InputError)
        # Out here the failed attempt's tensors are free.
        if not blamed:
            self._check_engine(ready, reason)
        if len(ready) == 1:
            return [reason]
        alone = [self._replies([asked])[0] for asked in ready]
        if all(isinstance(reply, Reply) for reply in alone):
            self.note = f"Some batches of {len(ready)} rows failed ({reason}) and were answered row by row."
        return alone

    def _check_engine(self, ready: Sequence[Asked], reason: str) -> None:
        """Raise `ModelError` if it was not the rows' fault."""
        try:
            probe(self._engine)
        except Exception as error:
            raise ModelError(
                f"The model broke at rows {ready[0].number} to {ready[-1].number} ({reason}) and answers nothing now: "
                "call the same command again to go on from there."
            ) from error


def _reason(error: Exception) -> str:
    """On one line; the type too where foveate did not word it."""
    text = " ".join(str(error).split())
    return text if isinstance(error, FoveateError) else f"{type(error).__name__}: {text}"[:500]
