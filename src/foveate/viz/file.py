"""The file of an overlay: its path is checked before anything runs, and it is written in one step."""

import os
from contextlib import suppress
from pathlib import Path

from PIL import Image

from foveate.errors import InputError

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def check_overlay(path: Path) -> None:
    """Raise `InputError` unless `save` can write there: the suffix of an image format, in a folder that exists."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"The overlay {path} has no image suffix: let it end in one of {', '.join(FORMATS)}.")
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent} for the overlay: create it first.")
    if path.is_dir():
        raise InputError(f"The overlay {path} is a folder: give the name of a file in it.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"Nothing can be written to {path.parent}: give another folder for the overlay.")


def save(image: Image.Image, path: Path) -> None:
    """Write a temporary file, then rename it, so that `path` is never half written. Raises `InputError` on failure."""
    check_overlay(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        image.save(part, format=FORMATS[path.suffix.lower()])
        part.replace(path)
    except OSError as error:
        raise InputError(f"The overlay {path} cannot be written ({error.strerror or error}): make room.") from error
    finally:
        with suppress(OSError):  # on a read-only disk even a missing file cannot be removed
            part.unlink(missing_ok=True)
