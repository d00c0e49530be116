"""Ray's workers among the processes of a Linux machine, found and killed as the kernel does it."""

import os
import signal
import time
from pathlib import Path

WORKER = "ray::MapWorker"


def until(true, seconds=90):
    """Wait for something to come true; returns what it is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    raise TimeoutError("It did not come true in time.")


def workers(ancestor):
    """The ids of Ray Data's actors among the descendants of a process."""
    parents, found = {}, []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            title = (path / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue  # it has ended
        if title.startswith(WORKER):
            found.append(int(path.name))
    return [pid for pid in found if ancestor in _above(pid, parents)]


def _above(pid, parents):
    while pid in parents:
        pid = parents[pid]
        yield pid


def kill(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return pids
