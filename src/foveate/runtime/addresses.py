"""Addresses where a file is meant, refused before a path drops one of their slashes."""

import re
from pathlib import Path

from foveate.errors import InputError

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def to_path(text: str) -> Path:
    """The path of a file. Raises `InputError` for an address, with the address as it was written."""
    if ADDRESS.match(text):
        raise InputError(f"{text} is an address, and nothing is fetched: download the file, and name it.")
    return Path(text)
