"""How a cluster is divided, addresses without a cluster, and interrupts."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading

import pytest

from foveate.apps.batch import cluster
from foveate.apps.batch.cluster import Allocation, allocate_workers, connect
from foveate.errors import InputError

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'foveate[batch]'")

WAIT = "the others wait for the cluster to grow."


@pytest.mark.parametrize(
    ("machines", "actors", "share"),
    [
        ([{"CPU": 8}], None, Allocation(1, 8, 0)),
        ([{"CPU": 8}], 3, Allocation(3, 2, 0)),
        ([{"CPU": 2}], 2, Allocation(2, 1, 0)),
        ([{"CPU": 16}, {"CPU": 4}], None, Allocation(2, 8, 0)),  # 10 would not fit twice
        ([{"CPU": 4}, {"CPU": 4}], 3, Allocation(3, 2, 0)),
        ([{"CPU": 4, "GPU": 2}, {"CPU": 64}], None, Allocation(2, 0, 1)),
        ([{"CPU": 4, "GPU": 2}], 1, Allocation(1, 0, 1)),
        ([{"CPU": 0}, {"CPU": 6}], None, Allocation(1, 6, 0)),
        ([{"CPU": 2}], 5, Allocation(5, 1, 0, f"5 actors need as many processor cores, and there are 2: {WAIT}")),
        ([{"CPU": 2, "GPU": 1}], 2, Allocation(2, 0, 1, f"2 actors need as many GPUs, and there are 1: {WAIT}")),
        ([{}], None, Allocation(1, 1, 0, f"1 actors need as many processor cores, and there are 0: {WAIT}")),
    ],
)
def test_shares(monkeypatch, machines, actors, share):
    nodes = [{"Alive": True, "Resources": machine} for machine in machines]
    monkeypatch.setattr(ray, "nodes", lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 99, "GPU": 9}}])
    assert allocate_workers(actors, local=False) == share


@pytest.mark.parametrize(
    ("machine", "says"),
    [({"CPU": 2}, "processor cores, and there are 2"), ({"CPU": 9, "GPU": 1}, "GPUs, and there are 1")],
)
def test_a_machine_on_its_own_does_not_grow(monkeypatch, machine, says):
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": machine}])
    with pytest.raises(InputError, match=f"3 actors need as many {says}: give fewer"):
        allocate_workers(3, local=True)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (f"127.0.0.1:{free_port()}", "No Ray cluster answers"),
        ("127.0.0.1:99999999", "No Ray cluster answers"),
        ("127.0.0.1:port", "No Ray cluster answers"),
        ("ray://127.0.0.1:10001", "Ray Client"),
        ("nonsense", "check --address"),
    ],
)
def test_addresses_without_a_cluster(address, says):
    with pytest.raises(InputError, match=says), connect(address):
        pytest.fail("connected")


def test_the_environment_names_a_cluster(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with pytest.raises(InputError, match="No Ray cluster answers"), connect(None):
        pytest.fail("connected")


STUCK = """
import os, signal, threading
from foveate.apps.batch import cluster
cluster.GRACE = 1
with cluster.handle_interrupts():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait()
    except KeyboardInterrupt:
        pass  # as where Python cannot let it through
    threading.Event().wait()
"""


def test_an_interrupt_that_is_lost_ends_the_process_all_the_same():
    assert subprocess.run([sys.executable, "-c", STUCK], timeout=600).returncode == 130


BROKEN = """
import signal
from foveate.apps.batch import cluster

def fail(self):
    raise ValueError("half-way")

def make(module):
    return type("Broken", (), {"__del__": type(fail)(fail.__code__, {**globals(), "__name__": module}, "__del__")})

kinds = make("ray.data"), make("own")
try:
    with cluster.handle_interrupts():
        signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    for kind in kinds:
        kind()
"""


def test_errors_of_rays_destructors_are_not_printed_after_an_interrupt():
    err = subprocess.run([sys.executable, "-c", BROKEN], timeout=600, capture_output=True, text=True).stderr
    assert err.count("ValueError") == 1  # of the other class


@pytest.fixture
def _own_hook(monkeypatch):
    """An interrupt replaces the hook until the end of the process, which here goes on."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)


@pytest.mark.usefixtures("_own_hook")
def test_an_interrupt_that_is_lost_is_raised_again():
    with cluster.handle_interrupts() as check:
        check()
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            check()


@pytest.mark.usefixtures("_own_hook")
def test_an_interrupt_that_is_not_lost_ends_nothing_later(monkeypatch):
    timers, make_timer = [], threading.Timer
    monkeypatch.setattr(threading, "Timer", lambda *args: timers.append(make_timer(*args)) or timers[-1])
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), cluster.handle_interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert [timer.finished.is_set() for timer in timers] == [True]
