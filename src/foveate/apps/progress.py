"""`show_steps`: what a command does at the moment, on a terminal, gone when it is done."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TextColumn


@contextmanager
def show_steps() -> Iterator[Callable[[str], None]]:
    """A line on standard error that names the current step; nothing where that is no terminal, or a dumb one.

    It is drawn when a step begins and at no other time: no thread takes time from what is measured.

    Yields:
        A function that is called with a text when a step begins.

    Example:
        with show_steps() as begin:
            begin("loading the model")
            begin("answering")
    """
    console = Console(stderr=True)
    is_shown = sys.stderr.isatty() and not console.is_dumb_terminal
    with Progress(
        TextColumn("{task.description} ...", markup=False), console=console, disable=not is_shown, transient=True,
        auto_refresh=False, redirect_stdout=False, redirect_stderr=False,
    ) as line:  # fmt: skip
        task = line.add_task("starting")
        line.refresh()
        yield lambda text: line.update(task, description=text, refresh=True)
