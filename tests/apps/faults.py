"""Faults of a disk and of a process: a full disk, a kill at any step."""

import multiprocessing
import os
import resource
import signal
import sys

import pytest

needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="Forks this process, models and all: on Linux only.")


def run_in_child(work):
    """Run in a fork of this process; return its exit code (negative for a signal, 3 for an error), and the error."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_guard, args=(work, sender))
    process.start()
    sender.close()
    process.join(300)
    return process.exitcode, receiver.recv() if process.exitcode == 3 else ""


def _guard(work, sender):
    try:
        work()
    except BaseException as error:
        sender.send(f"{type(error).__name__}: {error}")
        os._exit(3)
    os._exit(0)


def limit_files(size):
    """From here on this process cannot write more than `size` bytes into a file, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def signal_at(step, folder, number=signal.SIGKILL):
    """From here on send this process a signal before the `step`-th time it opens, renames or removes a file there."""
    left = iter(range(step))

    def watch(event, arguments):
        is_step = event in ("open", "os.rename", "os.remove") and str(arguments[0]).startswith(str(folder))
        if is_step and next(left, None) is None:
            os.kill(os.getpid(), number)

    sys.addaudithook(watch)
