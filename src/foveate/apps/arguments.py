"""Values of command-line arguments. Nothing here imports torch."""

from __future__ import annotations

import json
from typing import Any

from foveate.errors import InputError


def parse_keep(text: str) -> int | float:
    """A number of tokens, or with a dot (or an exponent) a share. Raises `InputError` for anything else."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    raise InputError(f"--keep {text!r} is no number: give a share (0.1) or a number of tokens (64).")


def parse_object(option: str, text: str) -> dict[str, Any]:
    """A JSON object. Raises `InputError` for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{option} {text!r} is no JSON object: write it as '{{\"name\": value}}'.")
    return value
