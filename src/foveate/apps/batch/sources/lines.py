"""Questions as JSON lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from foveate.apps.batch.sources.base import QuestionSource, Scan, Shard
from foveate.errors import InputError


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
