"""What a command says when it is interrupted."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any

import typer


def says_when_interrupted(sentence: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command end at SIGTERM as it does at Ctrl-C, with a sentence on what remains in `{out}`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            with _catch_interrupts(sentence.format(**values)):
                command(**values)

        return run

    return decorate


@contextmanager
def _catch_interrupts(sentence: str) -> Iterator[None]:
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupt) if is_main else None
    try:
        yield
    except KeyboardInterrupt as error:
        print(f"foveate: Interrupted. {sentence}", file=sys.stderr)
        raise typer.Exit(128 + (error.args[0] if error.args else signal.SIGINT)) from error
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _interrupt(number: int, _: FrameType | None) -> None:
    raise KeyboardInterrupt(number)
