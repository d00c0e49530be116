"""`collect_warnings`: foveate's own warnings as sentences, for those that show or send them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from foveate.errors import FoveateWarning


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """What foveate warns of in the block, each sentence once; the list is filled when the block is left.

    Warnings of others are handed on. For one thread at a time, as `warnings.catch_warnings` is.
    """
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FoveateWarning)
        yield notes
    for warning in caught:
        if not issubclass(warning.category, FoveateWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif str(warning.message) not in notes:
            notes.append(str(warning.message))
