"""Questions as JSON lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from foveate.apps.batch.source import Scan, Shard, Source
from foveate.errors import InputError


class Lines(Source):
    """A line a row, in UTF-8; blank lines are none."""

    def scan(self, size: int) -> Scan:
        """One pass over the bytes, which keeps a number a shard; the fingerprint is of the whole file."""
        offsets, rows, place, digest = [], 0, 0, hashlib.sha256()
        try:
            with self.path.open("rb") as file:
                for line in file:
                    if not line.isspace():
                        if rows % size == 0:
                            offsets.append(place)
                        rows += 1
                    place += len(line)
                    digest.update(line)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error}): give a file of JSON lines.") from error
        shards = [Shard(i, i * size, min(size, rows - i * size), offset) for i, offset in enumerate(offsets)]
        return Scan(shards, f"{place} bytes, sha256 {digest.hexdigest()}")

    def records(self, shard: Shard) -> Iterator[Any]:
        """A line that is no JSON is None."""
        with self.path.open("rb") as file:
            file.seek(shard.offset)
            for line in islice((line for line in file if not line.isspace()), shard.rows):
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    yield None
