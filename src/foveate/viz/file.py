"""Where an overlay goes: checked before anything runs, written in one step."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from foveate.errors import InputError

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def check_overlay(path: Path) -> None:
    """Whether `save` can write there: a picture's suffix, in a folder that exists. Raises `InputError` if not."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path} is no picture's name: let the overlay end in one of {', '.join(FORMATS)}.")
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent} for the overlay: create it first.")
    if path.is_dir():
        raise InputError(f"The overlay {path} is a folder: give the name of a file in it.")


def save(image: Image.Image, path: Path) -> None:
    """Write beside, then rename: whoever reads `path` never sees half a picture. Raises `InputError` if it cannot."""
    check_overlay(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        image.save(part, format=FORMATS[path.suffix.lower()])
        part.replace(path)
    except OSError as error:
        raise InputError(f"The overlay {path} cannot be written ({error.strerror or error}).") from error
    finally:
        part.unlink(missing_ok=True)
