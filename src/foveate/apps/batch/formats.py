"""The formats of a file of questions: JSON lines and Parquet."""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from foveate.apps.batch.source import QuestionSource, Shard, hash_row
from foveate.errors import FoveateError, InputError

COLUMNS = ("id", "image", "question")
ROWS = 64  # of a table, read at a time: a column may hold whole image files


class JsonLines(QuestionSource):
    """One row a line, in UTF-8; blank lines are skipped."""

    def read_digests(self) -> Iterator[tuple[int, bytes]]:
        """Of the lines without the white space around them."""
        position = 0
        try:
            with self.path.open("rb") as file:
                for line in file:
                    if not line.isspace():
                        yield position, hash_row(line.strip())
                    position += len(line)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error}): give a file of JSON lines.") from error

    def read_records(self, shard: Shard) -> Iterator[tuple[bytes, Any]]:
        """None for a line that is not JSON."""
        with self.path.open("rb") as file:
            file.seek(shard.offset)
            for line in islice((line for line in file if not line.isspace()), shard.rows):
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    record = None
                yield hash_row(line.strip()), record


class ParquetTable(QuestionSource):
    """Columns "image", "question" and optionally "id". For a shard, only its row groups are read."""

    def read_digests(self) -> Iterator[tuple[int, bytes]]:
        """Of what the columns hold; no place in the file, as row groups are found by number."""
        from pyarrow import ArrowException

        try:
            with self._open() as file:
                names = file.schema_arrow.names
                missing = {"image", "question"} - set(names)
                if missing:
                    raise InputError(
                        f"{self.path} has no column {min(missing)!r} (it has {', '.join(names)}): "
                        "give image and question."
                    )
                for batch in file.iter_batches(batch_size=ROWS, columns=_list_columns(file)):
                    yield from ((0, _hash_record(record)) for record in batch.to_pylist())
        except FoveateError:
            raise
        except (OSError, ValueError, OverflowError, ArrowException) as error:
            raise InputError(f"{self.path} cannot be read ({error}): give a Parquet file.") from error

    def read_records(self, shard: Shard) -> Iterator[tuple[bytes, Any]]:
        """In small batches. Raises `OSError` for a file that is no table any more."""
        from pyarrow import ArrowException

        try:
            with self._open() as file:
                sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
                starts = list(accumulate(sizes, initial=0))
                first = bisect_right(starts, shard.first) - 1
                groups = list(range(first, min(bisect_left(starts, shard.first + shard.rows), len(sizes))))
                skip, left = shard.first - starts[first], shard.rows
                for batch in file.iter_batches(batch_size=ROWS, row_groups=groups, columns=_list_columns(file)):
                    part = batch.slice(skip, left)
                    skip, left = max(skip - batch.num_rows, 0), left - part.num_rows
                    yield from ((_hash_record(record), record) for record in part.to_pylist())
                    if not left:
                        return
        except ArrowException as error:
            raise OSError(str(error)) from error

    def _open(self) -> Any:
        from pyarrow.parquet import ParquetFile

        return ParquetFile(self.path)


def _list_columns(file: Any) -> list[str]:
    return [name for name in COLUMNS if name in file.schema_arrow.names]


def _hash_record(record: dict[str, Any]) -> bytes:
    return hash_row(json.dumps(record, default=_to_text).encode())


def _to_text(value: Any) -> str:
    """An image file's bytes, or a value of a type that JSON does not have, in the text that stands for its row."""
    return hash_row(value).hex() if isinstance(value, bytes) else str(value)


KINDS: dict[str, type[QuestionSource]] = {".jsonl": JsonLines, ".ndjson": JsonLines, ".parquet": ParquetTable}


def open_source(path: Path) -> QuestionSource:
    """Choose the reader by the file's suffix. Raises `InputError` for another suffix, or if there is no such file."""
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path} is neither .jsonl nor .parquet: give JSON lines or a Parquet file.")
    if not path.is_file():
        raise InputError(f"There is no file {path}: check the path.")
    return kind(path)
