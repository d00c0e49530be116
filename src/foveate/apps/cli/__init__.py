"""The command line: `main` is the console script, and every module here holds one command or two.

The commands import torch and transformers when they run, so that `--help` is quick.
"""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from foveate.apps.cli import ask, batch, bench, calibrate, chat, evaluate, serve, tables, watch  # noqa: F401  each registers itself
from foveate.apps.cli.options import app
from foveate.errors import FoveateError

__all__ = ["app", "main"]


EXIT_CODES = (
    "Exit codes: 0 all is well; 1 a law is violated, or the reader of the output has left; 2 the input cannot be right "
    "or a file cannot be used (one line on standard error); 130 and 143 stopped by Ctrl-C or SIGTERM."
)


VERSIONS = "Print the versions of foveate, Python, torch and transformers."


@app.callback(invoke_without_command=True, epilog=EXIT_CODES)
def root(context: typer.Context, version: Annotated[bool, typer.Option("--version", help=VERSIONS)] = False) -> None:
    """Prune the visual tokens of a vision-language model, guided by the question."""
    if version:
        from foveate.apps.results import read_versions

        print(", ".join(f"{name} {number}" for name, number in read_versions().items()))
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. An error of foveate or of the parser is one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an answer may contain characters that the terminal lacks
    try:
        code = app(args=arguments, standalone_mode=False)
        _flush()
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:  # the reader of the output has left, as `head` does
        code = 1
    except Exception as error:
        text = _describe(error)
        if text is None:
            raise
        with suppress(OSError):
            _flush()
        print(f"foveate: {' '.join(text.split())}", file=sys.stderr)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


def _describe(error: Exception) -> str | None:
    """The sentence for the user; None for a fault of foveate's own."""
    if isinstance(error, FoveateError):
        return str(error)
    if isinstance(error, OSError):
        name, reason = error.filename or "Standard output, or a file,", error.strerror or error
        return f"{name} cannot be read or written ({reason}): make room or allow it, and run the same command again."
    # Typer's parser errors come from two packages; both have this method, and nothing else does.
    return error.format_message() if hasattr(error, "format_message") else None


def _flush() -> None:
    """Write what is left of standard output; where that fails, drop it, as the interpreter would fail at its exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
