"""Answer one shard: batch by batch, row by row where a batch fails; rows that fail are set aside."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from PIL import Image

from foveate.apps.batch.engines.base import BatchEngine, BatchReply, make_probe
from foveate.apps.batch.folder import Line
from foveate.apps.batch.source import QuestionSource, Shard, get_id
from foveate.errors import FoveateError, InputError, ModelError


@dataclass(frozen=True)
class ReadyRow:
    """A row whose question and image could be read."""

    number: int
    id: str | int
    question: str
    image: Image.Image


class ShardAnswers:
    """The lines of a shard's two files: `answers`, and `bad` rows with their reason. `note` reports slow batches."""

    def __init__(self, engine: BatchEngine, batch: int) -> None:
        self.answers: list[Line] = []
        self.bad: list[Line] = []
        self.note: str | None = None
        self._engine, self._batch = engine, batch

    def answer(self, source: QuestionSource, shard: Shard) -> None:
        """Answer all rows of a shard, in order.

        Raises `InputError` if the file has changed since the scan, `ModelError` if the engine broke.
        """
        records = source.read_numbered(shard)
        while group := list(islice(records, self._batch)):
            rows = [row for row in (self._read(source, *numbered) for numbered in group) if row is not None]
            for row, reply in zip(rows, self._get_replies(rows), strict=True):
                if isinstance(reply, BatchReply):
                    self.answers.append({"row": row.number, "id": row.id, "question": row.question, **asdict(reply)})
                else:
                    self._set_aside(row.number, row.id, reply)
        self.bad.sort(key=lambda line: int(line["row"]))

    def _read(self, source: QuestionSource, number: int, record: Any) -> ReadyRow | None:
        row_id = get_id(record, number)
        try:
            question = source.parse(record)
            return ReadyRow(number, row_id, question.text, question.open_image())
        except FoveateError as error:
            self._set_aside(number, row_id, str(error))
            return None

    def _set_aside(self, number: int, row_id: str | int, reason: str) -> None:
        self.bad.append({"row": number, "id": row_id, "reason": reason})

    def _get_replies(self, rows: Sequence[ReadyRow]) -> list[BatchReply | str]:
        """A reply for each row, or the reason why there is none."""
        if not rows:
            return []
        try:
            return list(self._engine.answer([row.image for row in rows], [row.question for row in rows]))
        except Exception as error:  # a processor or a model may raise anything on odd inputs
            reason, is_row_error = _to_reason(error), isinstance(error, InputError)
        # Outside of the except block the failed attempt's tensors are free.
        if not is_row_error:
            self._check_engine(rows, reason)
        if len(rows) == 1:
            return [reason]
        replies = [self._get_replies([row])[0] for row in rows]
        if all(isinstance(reply, BatchReply) for reply in replies):
            self.note = f"Some batches of {len(rows)} rows failed ({reason}) and were answered row by row."
        return replies

    def _check_engine(self, rows: Sequence[ReadyRow], reason: str) -> None:
        """Raise `ModelError` if the engine fails on the probe too."""
        try:
            self._engine.answer(*make_probe())
        except Exception as error:
            raise ModelError(
                f"The model broke at rows {rows[0].number} to {rows[-1].number} ({reason}) and answers nothing now: "
                "run the same command again to continue from there."
            ) from error


def _to_reason(error: Exception) -> str:
    """The error on one line, with its type if it is not foveate's."""
    text = " ".join(str(error).split())
    return text if isinstance(error, FoveateError) else f"{type(error).__name__}: {text}"[:500]
