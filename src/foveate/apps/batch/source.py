"""The interface of a file of questions: it is cut into shards by row number, and each row is checked."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from foveate.errors import InputError
from foveate.runtime.files import decode_image, open_image

SAME_PATH = "questions, images and answers must be under the same path on every machine"


@dataclass(frozen=True)
class Shard:
    """The `rows` rows from row `first` on (from 0), whose answers share a file; `offset` is the byte they start at."""

    number: int
    first: int
    rows: int
    offset: int = 0


@dataclass(frozen=True)
class Scan:
    """The shards, and a fingerprint that identifies the same input wherever the file is."""

    shards: list[Shard]
    fingerprint: str

    @property
    def rows(self) -> int:
        """Of all shards."""
        return sum(shard.rows for shard in self.shards)


@dataclass(frozen=True)
class BatchQuestion:
    """A question about an image: the path of its file, or the file's bytes."""

    text: str
    image: Path | bytes

    def open_image(self) -> Image.Image:
        """Raises `ImageError` if it cannot be read."""
        return decode_image(self.image) if isinstance(self.image, bytes) else open_image(self.image)


class QuestionSource(ABC):
    """A file of rows. Workers receive its path alone, and read it on their own machine."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @abstractmethod
    def scan(self, size: int) -> Scan:
        """Cut into shards of `size` rows, the last one shorter. Raises `InputError` if the file cannot be read."""

    @abstractmethod
    def read_records(self, shard: Shard) -> Iterator[Any]:
        """The shard's rows as dictionaries; anything else is a row that cannot be read."""

    def read_numbered(self, shard: Shard) -> Iterator[tuple[int, Any]]:
        """The shard's records with their numbers. Raises `InputError` if the file has changed since the scan."""
        number = shard.first
        try:
            for number, record in enumerate(self.read_records(shard), shard.first + 1):
                yield number - 1, record
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} cannot be read ({error}): {SAME_PATH}.") from error
        if number != shard.first + shard.rows:
            raise InputError(f"{self.path} changed while it was read: leave it as it is until the run is over.")

    def parse(self, record: Any) -> BatchQuestion:
        """The record's question. Raises `InputError` with what is wrong with the record."""
        if not isinstance(record, dict):
            raise InputError('It is no JSON object in UTF-8: write {"image": ..., "question": ...}.')
        question, image = record.get("question"), record.get("image")
        if not isinstance(question, str) or not question.strip():
            raise InputError("'question' is missing or no text.")
        if isinstance(image, dict):  # as Hugging Face's datasets store images
            image = image.get("bytes") or image.get("path")
        if not isinstance(image, (str, bytes)) or not image.strip():
            raise InputError("'image' is missing, or no path.")
        return BatchQuestion(question, image if isinstance(image, bytes) else self.path.parent / image)


def get_id(record: Any, number: int) -> str | int:
    """The row's own "id", or "row-" and its number."""
    value = record.get("id") if isinstance(record, dict) else None
    if value is None:
        return f"row-{number}"
    return value if isinstance(value, (str, int)) else str(value)
