"""The command line: `main` is the console script, and every module here holds one command or two.

The commands import torch and transformers when they run, so that `--help` is quick.
"""

import io
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from foveate import __version__
from foveate.apps.cli import ask, batch, bench, evaluate, serve, tables  # noqa: F401  each registers itself
from foveate.apps.cli.options import app
from foveate.errors import FoveateError

__all__ = ["app", "main"]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Prune the visual tokens of a vision-language model, guided by the question."""
    if version:
        print(__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. An error of foveate or of the parser is one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an answer may contain characters that the terminal lacks
    try:
        code = app(args=arguments, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        # Typer's parser errors come from two packages; both have this method, and nothing else does.
        if not isinstance(error, FoveateError) and not hasattr(error, "format_message"):
            raise
        text = str(error) if isinstance(error, FoveateError) else error.format_message()
        print(f"foveate: {' '.join(text.split())}", file=sys.stderr)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)
