"""Folders of results: one run each, files that are written as a whole, and what a run records about itself."""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from foveate.errors import InputError

RUN = "run.json"  # the settings of the run
PART = ".part"  # suffix of an unfinished file


def make_folder(path: Path) -> None:
    """Create the folder. Raises `InputError` if results cannot be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be used ({error}): give another folder for the results.") from error


def claim_folder(out: Path, settings: Mapping[str, Any]) -> None:
    """Create the folder and write the run's settings into it, or compare them with those that are there.

    Raises `InputError` if the folder cannot be used, or holds a run with other settings.
    """
    header = out / RUN
    make_folder(out)
    try:
        known = json.loads(header.read_text()) if header.exists() else settings
        if known is settings:
            write_file(header, json.dumps(settings, indent=1) + "\n")
    except (OSError, ValueError) as error:
        raise InputError(f"{out} cannot be used ({error}): give another folder for the results.") from error
    for name in sorted({*known, *settings}):
        old, new = known.get(name), settings.get(name)
        if json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True):  # 1 == 1.0, but not as a budget
            raise InputError(
                f"{out} holds a run with another {name} ({old!r}, not {new!r}): "
                "give another folder, or the same settings to go on."
            )


def write_file(path: Path, text: str, suffix: str = PART) -> None:
    """Write beside the file, then rename: a killed run or a machine that goes down leaves no half file."""
    part = path.with_suffix(suffix)
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_commit() -> str | None:
    """The commit of foveate's sources, where they are a git checkout."""
    command, here = ["git", "rev-parse", "HEAD"], Path(__file__).parent
    try:
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def read_versions(*more: str) -> dict[str, str]:
    """The installed versions of Python, foveate, torch, transformers and `more` packages."""
    names = ("foveate", "torch", "transformers", *more)
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def make_progress() -> Progress:
    """A progress bar with an estimate of the time left; prints nothing where there is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
