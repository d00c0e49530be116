"""The questions: a file of rows, cut into shards by row number, and what a row must hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from foveate.errors import InputError
from foveate.runtime.files import decode_image, open_image

EVERYWHERE = "questions, pictures and answers must lie under the same path on every machine"


@dataclass(frozen=True)
class Shard:
    """The `rows` rows from row `first` on (from 0), whose answers share a file; `offset` is the byte they start at."""

    number: int
    first: int
    rows: int
    offset: int = 0


@dataclass(frozen=True)
class Scan:
    """The shards, and a fingerprint by which the same input is known again, wherever it is."""

    shards: list[Shard]
    fingerprint: str

    @property
    def rows(self) -> int:
        """Of all shards."""
        return sum(shard.rows for shard in self.shards)


@dataclass(frozen=True)
class Row:
    """A question about a picture: the path of its file, or the file's bytes."""

    question: str
    image: Path | bytes

    def picture(self) -> Image.Image:
        """Raises `ImageError` if it cannot be read."""
        return decode_image(self.image) if isinstance(self.image, bytes) else open_image(self.image)


class Source(ABC):
    """A file of rows. Workers get it by its path alone, and read it where they are."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @abstractmethod
    def scan(self, size: int) -> Scan:
        """Cut into shards of `size` rows, the last one shorter. Raises `InputError` if the file cannot be read."""

    @abstractmethod
    def records(self, shard: Shard) -> Iterator[Any]:
        """The shard's rows as dictionaries; anything else is a row that cannot be read."""

    def numbered(self, shard: Shard) -> Iterator[tuple[int, Any]]:
        """The shard's records with their numbers. Raises `InputError` if the file is no longer what was scanned."""
        number = shard.first
        try:
            for number, record in enumerate(self.records(shard), shard.first + 1):
                yield number - 1, record
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} cannot be read ({error}): {EVERYWHERE}.") from error
        if number != shard.first + shard.rows:
            raise InputError(f"{self.path} changed while it was read: leave it as it is until the run is over.")

    def read(self, record: Any) -> Row:
        """What is asked by a record. Raises `InputError` with what is wrong with it."""
        if not isinstance(record, dict):
            raise InputError('It is no JSON object in UTF-8: write {"image": ..., "question": ...}.')
        question, image = record.get("question"), record.get("image")
        if not isinstance(question, str) or not question.strip():
            raise InputError("'question' is missing or no text.")
        if isinstance(image, dict):  # as Hugging Face's datasets store pictures
            image = image.get("bytes") or image.get("path")
        if not isinstance(image, (str, bytes)) or not image.strip():
            raise InputError("'image' is missing, or no path.")
        return Row(question, image if isinstance(image, bytes) else self.path.parent / image)


def open_source(path: Path) -> Source:
    """The file by its suffix. Raises `InputError` if it is not there or of another kind."""
    from foveate.apps.batch.lines import Lines
    from foveate.apps.batch.table import Table

    kinds: dict[str, type[Source]] = {".jsonl": Lines, ".ndjson": Lines, ".parquet": Table}
    if path.suffix.lower() not in kinds:
        raise InputError(f"{path} is neither .jsonl nor .parquet: give JSON lines or a Parquet file.")
    if not path.is_file():
        raise InputError(f"There is no file {path}: check the path.")
    return kinds[path.suffix.lower()](path)


def name_of(record: Any, number: int) -> str | int:
    """The row's "id" as it stands, or "row-" and its number."""
    given = record.get("id") if isinstance(record, dict) else None
    if given is None:
        return f"row-{number}"
    return given if isinstance(given, (str, int)) else str(given)
