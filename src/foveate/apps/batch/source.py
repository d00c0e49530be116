"""The interface of a file of questions: it is cut into shards by row number, and each row is checked."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from foveate.errors import FoveateError, InputError
from foveate.runtime.addresses import to_path
from foveate.runtime.files import decode_image, open_image

SAME_PATH = "questions, images and answers must be under the same path on every machine"
DIGEST = 8  # bytes of a row's digest


@dataclass(frozen=True)
class Shard:
    """The `rows` rows from row `first` on (from 0), whose answers share a file.

    `offset` is the byte they start at. `digests` are those of the rows, in hex; without them rows are not compared.
    """

    number: int
    first: int
    rows: int
    offset: int = 0
    digests: str = ""


@dataclass(frozen=True)
class Scan:
    """The shards, a fingerprint that identifies the same rows wherever the file is, and the file's size and times."""

    shards: list[Shard]
    fingerprint: str
    state: tuple[int, ...]

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

    def scan(self, size: int) -> Scan:
        """Read the file once and cut it into shards of `size` rows, the last one shorter.

        Raises `InputError` if the file cannot be read.
        """
        state, offsets, digests, position = self._read_state(), list[int](), bytearray(), 0
        for position, digest in self.read_digests():
            if len(digests) % (size * DIGEST) == 0:
                offsets.append(position)
            digests += digest
        starts = range(0, len(digests), size * DIGEST)
        parts = [bytes(digests[start : start + size * DIGEST]) for start in starts]
        shards = [
            Shard(i, i * size, len(part) // DIGEST, offset, part.hex())
            for i, (part, offset) in enumerate(zip(parts, offsets, strict=True))
        ]
        return Scan(shards, f"{len(digests) // DIGEST} rows, sha256 {hashlib.sha256(digests).hexdigest()}", state)

    @abstractmethod
    def read_digests(self) -> Iterator[tuple[int, bytes]]:
        """The byte that each row starts at, and the row's digest. Raises `InputError` if the file cannot be read."""

    @abstractmethod
    def read_records(self, shard: Shard) -> Iterator[tuple[bytes, Any]]:
        """The digests and rows of the shard; a row that is no dictionary cannot be used."""

    def read_numbered(self, shard: Shard) -> Iterator[tuple[int, Any]]:
        """The shard's records with their numbers. Raises `InputError` for the first that the scan did not see."""
        number = shard.first
        try:
            for digest, record in self.read_records(shard):
                place = (number - shard.first) * 2 * DIGEST
                if shard.digests and digest.hex() != shard.digests[place : place + 2 * DIGEST]:
                    raise self._make_change_error(number)
                yield number, record
                number += 1
        except FoveateError:
            raise
        except (OSError, ValueError) as error:
            raise InputError(f"Row {number} of {self.path} cannot be read ({error}): {SAME_PATH}.") from error
        if number < shard.first + shard.rows:
            raise self._make_change_error(number)

    def check_unchanged(self, scan: Scan) -> None:
        """Raise `InputError` with the first row that is not as it was in the scan."""
        expected, row = bytes.fromhex("".join(shard.digests for shard in scan.shards)), 0
        with suppress(InputError):  # of a file that cannot be read this row is lost
            if self._read_state() == scan.state:
                return
            for _, digest in self.read_digests():
                if digest != expected[row * DIGEST : (row + 1) * DIGEST]:
                    break
                row += 1
            else:
                if row == scan.rows:
                    return
        raise self._make_change_error(row)

    def _read_state(self) -> tuple[int, ...]:
        try:
            status = self.path.stat()
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error}): leave it until the run is over.") from error
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino

    def _make_change_error(self, row: int) -> InputError:
        return InputError(
            f"{self.path} changed while it was read: row {row} (from 0) was changed, added or removed. Restore the "
            "file and run the same command again, or give another folder for the answers."
        )

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
        return BatchQuestion(question, image if isinstance(image, bytes) else self.path.parent / to_path(image))


def get_id(record: Any, number: int) -> str | int:
    """The row's own "id", or "row-" and its number."""
    value = record.get("id") if isinstance(record, dict) else None
    if value is None:
        return f"row-{number}"
    return value if isinstance(value, (str, int)) else str(value)


def hash_row(row: bytes) -> bytes:
    """The digest of a row's bytes."""
    return hashlib.blake2b(row, digest_size=DIGEST).digest()
