"""What a command does at the moment: on a terminal and nowhere else, and gone at the end."""

import os
import pty
import sys
import threading
from contextlib import contextmanager, redirect_stderr
from io import StringIO

import pytest

from foveate.apps.progress import show_steps

ERASE, CURSOR = b"\x1b[2K", b"\x1b[?25h"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@contextmanager
def terminal():
    """Standard error is a terminal; what was written to it is in the list at the end."""
    ours, theirs = pty.openpty()
    pieces, shown = [], []

    def read():
        while True:
            try:
                pieces.append(os.read(ours, 4096))
            except OSError:  # the other end is closed
                return

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as stream, redirect_stderr(stream):
        yield shown
    reader.join()
    os.close(ours)
    shown.append(b"".join(pieces))


def work():
    with show_steps() as begin:
        begin("loading [bold]a/model")
        begin("answering")


def fail():
    with show_steps() as begin:
        begin("loading")
        raise ValueError("no")


def test_steps_are_shown_and_erased():
    with terminal() as shown:
        work()
    assert b"loading [bold]a/model ..." in shown[0]
    assert shown[0].index(b"starting") < shown[0].index(b"loading") < shown[0].index(b"answering")
    end = shown[0][shown[0].rindex(b"answering") :]
    assert ERASE in end
    assert CURSOR in end


def test_steps_are_erased_behind_an_error():
    with terminal() as shown, pytest.raises(ValueError, match="no"):
        fail()
    assert ERASE in shown[0][shown[0].rindex(b"loading") :]


def test_nothing_on_a_dumb_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with terminal() as shown:
        work()
    assert shown == [b""]


def test_no_colours(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    with terminal() as shown:
        work()
    assert b"answering" in shown[0]
    assert b"m" not in shown[0].replace(b"a/model", b"")  # every sequence that colours ends in it


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_nothing_in_a_pipe(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with redirect_stderr(StringIO()) as pipe:
        work()
    assert pipe.getvalue() == ""


def test_it_is_standard_error_alone(capsys):
    with terminal() as shown:
        work()
        print("the answer", file=sys.stdout)
    assert capsys.readouterr().out == "the answer\n"
    assert b"the answer" not in shown[0]
