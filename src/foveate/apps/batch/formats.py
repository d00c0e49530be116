"""The formats of a file of questions: JSON lines and Parquet."""

import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from foveate.apps.batch.source import QuestionSource, Scan, Shard
from foveate.errors import InputError

COLUMNS = ("id", "image", "question")
PIECE = 2**20  # bytes
PIECES = 64


class JsonLines(QuestionSource):
    """One row a line, in UTF-8; blank lines are skipped."""

    def scan(self, size: int) -> Scan:
        """Read the file once and keep one offset a shard; the fingerprint is of the whole file."""
        offsets, rows, position, digest = [], 0, 0, hashlib.sha256()
        try:
            with self.path.open("rb") as file:
                for line in file:
                    if not line.isspace():
                        if rows % size == 0:
                            offsets.append(position)
                        rows += 1
                    position += len(line)
                    digest.update(line)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error}): give a file of JSON lines.") from error
        shards = [Shard(i, i * size, min(size, rows - i * size), offset) for i, offset in enumerate(offsets)]
        return Scan(shards, f"{position} bytes, sha256 {digest.hexdigest()}")

    def read_records(self, shard: Shard) -> Iterator[Any]:
        """None for a line that is not JSON."""
        with self.path.open("rb") as file:
            file.seek(shard.offset)
            for line in islice((line for line in file if not line.isspace()), shard.rows):
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    yield None


class ParquetTable(QuestionSource):
    """Columns "image", "question" and optionally "id". For a shard, only its row groups are read."""

    def scan(self, size: int) -> Scan:
        """Read the metadata alone; the fingerprint of a large file is of pieces."""
        from pyarrow import ArrowInvalid

        try:
            with self._open() as file:
                rows, names = file.metadata.num_rows, file.schema_arrow.names
            fingerprint = _hash_pieces(self.path)
        except (OSError, ArrowInvalid) as error:
            raise InputError(f"{self.path} cannot be read ({error}): give a Parquet file.") from error
        missing = {"image", "question"} - set(names)
        if missing:
            raise InputError(
                f"{self.path} has no column {min(missing)!r} (it has {', '.join(names)}): give image and question."
            )
        shards = [Shard(i, first, min(size, rows - first)) for i, first in enumerate(range(0, rows, size))]
        return Scan(shards, fingerprint)

    def read_records(self, shard: Shard) -> Iterator[Any]:
        """In small batches, since a column may hold whole image files."""
        with self._open() as file:
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            starts = list(accumulate(sizes, initial=0))
            first = bisect_right(starts, shard.first) - 1
            groups = list(range(first, bisect_left(starts, shard.first + shard.rows)))
            columns = [name for name in COLUMNS if name in file.schema_arrow.names]
            skip, left = shard.first - starts[first], shard.rows
            for batch in file.iter_batches(batch_size=64, row_groups=groups, columns=columns):
                part = batch.slice(skip, left)
                skip, left = max(skip - batch.num_rows, 0), left - part.num_rows
                yield from part.to_pylist()
                if not left:
                    return

    def _open(self) -> Any:
        from pyarrow.parquet import ParquetFile

        return ParquetFile(self.path)


def _hash_pieces(path: Path) -> str:
    """The size, and a hash of evenly spaced pieces: all of a small file, 64 MiB of a large one.

    The last piece holds the footer, with the place and usually the extremes of every column of every row group.
    """
    size = path.stat().st_size
    last = max(size - PIECE, 0)
    whole = size <= PIECE * PIECES
    starts = range(0, size, PIECE) if whole else [last * i // (PIECES - 1) for i in range(PIECES)]
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            digest.update(file.read(PIECE))
    return f"{size} bytes, sha256 {'' if whole else 'of 64 MiB '}{digest.hexdigest()}"


KINDS: dict[str, type[QuestionSource]] = {".jsonl": JsonLines, ".ndjson": JsonLines, ".parquet": ParquetTable}


def open_source(path: Path) -> QuestionSource:
    """Choose the reader by the file's suffix. Raises `InputError` for another suffix, or if there is no such file."""
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path} is neither .jsonl nor .parquet: give JSON lines or a Parquet file.")
    if not path.is_file():
        raise InputError(f"There is no file {path}: check the path.")
    return kind(path)
