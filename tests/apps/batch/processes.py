"""Kill Ray's workers on a Linux machine, while an image file keeps them waiting."""

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

WORKER = "ray::MapWorker"


def wait_for(condition, seconds=600):
    """Wait until the condition is true; return its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise TimeoutError("The condition did not become true in time.")


@contextmanager
def blocked(path):
    """Let workers that open this image file wait until they are killed, so that no test depends on their speed."""
    aside = path.rename(path.with_suffix(".aside"))
    os.mkfifo(path)
    try:
        yield
    finally:
        aside.replace(path)


def find_workers(ancestor):
    """The ids of Ray Data's actors among the descendants of a process."""
    parents, ids = {}, []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            title = (path / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue  # it has ended
        if title.startswith(WORKER):
            ids.append(int(path.name))
    return [pid for pid in ids if ancestor in _ancestors(pid, parents)]


def _ancestors(pid, parents):
    while pid in parents:
        pid = parents[pid]
        yield pid


def kill(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return pids
