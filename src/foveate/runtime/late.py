"""Packages that are imported late, and the sentence that their errors leave."""

import importlib
from typing import Any


def import_late(name: str) -> Any:
    """Import late, as transformers is slow to import, and untyped, as its annotations are not reliable."""
    return importlib.import_module(name)


def cause_of(error: Exception) -> str:
    """The first line of another library's error, without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".:") if lines else type(error).__name__
