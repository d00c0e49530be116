"""The file of questions, as JSON lines or Parquet."""

from __future__ import annotations

from pathlib import Path

from foveate.apps.batch.sources.base import QuestionSource
from foveate.apps.batch.sources.lines import JsonLines
from foveate.apps.batch.sources.table import ParquetTable
from foveate.errors import InputError

KINDS: dict[str, type[QuestionSource]] = {".jsonl": JsonLines, ".ndjson": JsonLines, ".parquet": ParquetTable}


def open_source(path: Path) -> QuestionSource:
    """Choose the reader by the file's suffix. Raises `InputError` for another suffix, or if there is no such file."""
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path} is neither .jsonl nor .parquet: give JSON lines or a Parquet file.")
    if not path.is_file():
        raise InputError(f"There is no file {path}: check the path.")
    return kind(path)
