"""`collect_warnings`: foveate's own warnings as sentences, for programs that show or send them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from foveate.errors import FoveateWarning


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect foveate's warnings in the block, each sentence once; the list is filled when the block ends.

    Other warnings pass through. Not thread-safe, as `warnings.catch_warnings` is not.
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
