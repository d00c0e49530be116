"""Folders of results: one run each, files that are written as a whole, and what a run records about itself."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from foveate.errors import FoveateWarning, InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUN = "run.json"  # the settings of the run
PART = ".part"  # suffix of an unfinished file


@contextmanager
def open_folder(path: Path) -> Iterator[None]:
    """Create the folder of a run, and keep other runs out of it until the end of the block.

    The operating system unlocks the folder when the process ends, even if it is killed. Raises `InputError` if another
    run has locked it, or if results cannot be written there.
    """
    make_folder(path)
    if sys.platform == "win32":  # folders have no locks there
        yield
        return
    import fcntl

    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InputError(f"Another run writes to {path}: wait until it is over, or give another folder.") from error
    except OSError as error:
        warnings.warn(f"{path} cannot be locked ({error.strerror}): start no second run.", FoveateWarning, stacklevel=3)
    try:
        yield
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create the folder. Raises `InputError` if results cannot be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise OSError("nothing can be written there")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be used ({error}): give another folder for the results.") from error


def claim_folder(out: Path, settings: Mapping[str, Any], extends: Collection[str] = ()) -> None:
    """Create the folder and write the run's settings into it, or compare them with those that are there.

    Settings that `extends` names may differ: then they take the place of those that are there.

    Raises `InputError` if the folder cannot be used, or holds a run with other settings.
    """
    header = out / RUN
    make_folder(out)
    try:
        is_new = not header.exists()
        known = {} if is_new else json.loads(header.read_text(encoding="utf-8"))
        if not isinstance(known, dict):
            raise ValueError(f"{RUN} is damaged")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{out} cannot be used ({error}): give another folder for the results.") from error
    if is_new:
        write_file(header, json.dumps(settings, indent=1) + "\n")
        return
    for name in sorted({*known, *settings} - {*extends}):
        old, new = known.get(name), settings.get(name)
        if json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True):  # 1 == 1.0, but not as a budget
            raise InputError(
                f"{out} holds a run with another {name} ({old!r}, not {new!r}): "
                "give another folder, or the same settings to go on."
            )
    if known != settings:
        write_file(header, json.dumps(settings, indent=1) + "\n")


def write_file(path: Path, content: str | bytes, suffix: str = PART) -> None:
    """Write beside the file, then rename: a killed run or a machine that goes down leaves no half file.

    Raises `InputError` if it cannot be written; then the old file is still there.
    """
    part = path.with_suffix(suffix)
    try:
        _write(part, "wb", content)
        part.replace(path)
    except OSError as error:
        raise _make_error(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def append_file(path: Path, text: str) -> None:
    """Add to the end of a file, on disk. Raises `InputError`; then the last line may be incomplete."""
    try:
        _write(path, "ab", text)
    except OSError as error:
        raise _make_error(path, error) from error


def write_figure(path: Path, figure: Figure) -> None:
    """Draw a figure into a PNG file, as `write_file` does."""
    write_file(path, draw_figure(figure))


def draw_figure(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def _write(path: Path, mode: Literal["ab", "wb"], content: str | bytes) -> None:
    with path.open(mode) as file:
        file.write(content if isinstance(content, bytes) else content.encode(errors="backslashreplace"))
        file.flush()
        os.fsync(file.fileno())


def _make_error(path: Path, error: OSError) -> InputError:
    reason = error.strerror or error
    return InputError(f"{path} cannot be written ({reason}): make room or allow it, and run the same command again.")


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
