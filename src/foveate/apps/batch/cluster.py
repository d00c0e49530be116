"""Ray: connect to a cluster, and divide it among workers."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from types import FrameType
from typing import Any

from foveate.errors import InputError

LOCAL = "local"
STORE = 128 * 2**20  # bytes; only the places of shards go through Ray's object store
GRACE = 15.0  # seconds from an interrupt to the end of the process at the latest
SIGNALS = (signal.SIGINT, signal.SIGTERM)
CONNECT_SECONDS = 10.0  # Ray itself would try for minutes


@dataclass(frozen=True)
class Allocation:
    """The number of workers, the processor cores and GPUs of each, and a note if there are too few for all."""

    workers: int
    cpus: int
    gpus: int
    note: str | None = None


def check_ray() -> None:
    """Raise `InputError` if Ray is not installed."""
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise InputError("`foveate batch` needs Ray: pip install 'foveate[batch]'.") from error


@contextmanager
def handle_interrupts() -> Iterator[Callable[[], None]]:
    """End the process some time after SIGINT or SIGTERM, even if the `KeyboardInterrupt` is lost inside Ray.

    Files on disk are complete at any time. The error's argument is the signal. Yields a function that raises a lost
    error again.
    """
    received: list[int] = []
    timers: list[threading.Timer] = []

    def check() -> None:
        if received:
            raise KeyboardInterrupt(received[-1])

    if threading.current_thread() is not threading.main_thread():
        yield check
        return

    def interrupt(number: int, _: FrameType | None) -> None:
        received.append(number)
        _silence_ray()
        timers.append(threading.Timer(GRACE, os._exit, (128 + number,)))
        timers[-1].daemon = True
        timers[-1].start()
        check()

    before = [signal.signal(number, interrupt) for number in SIGNALS]
    try:
        yield check
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)
        for timer in timers:
            timer.cancel()


def _silence_ray() -> None:
    """Until the end of the process, print no errors of Ray's destructors: an interrupt leaves its objects half-way."""
    before = sys.unraisablehook

    def report(lost: Any) -> None:
        if not str(getattr(lost.object, "__module__", "")).startswith("ray."):
            before(lost)

    sys.unraisablehook = report


@contextmanager
def connect(address: str | None) -> Iterator[bool]:
    """Connect to a cluster, or start Ray on this machine (then it yields True) until the end of the block.

    `address` is "auto", host:port, or None for RAY_ADDRESS, if that is set. A Ray that the caller has started is used
    as it is, and left running. Raises `InputError` if there is no cluster.
    """
    import ray

    if ray.is_initialized():
        yield False
        return
    address = address or os.environ.get("RAY_ADDRESS") or LOCAL
    _check_address(address)
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        settings |= {"include_dashboard": False, "object_store_memory": STORE}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it logs intended events as errors
    with redirect_stdout(sys.stderr):  # Ray prints there that a worker died
        try:
            with _keep_sigterm():
                ray.init(address, **settings)
        except Exception as error:  # a ConnectionError, a RuntimeError, a ValueError, ...
            reason = " ".join(str(error).split())
            raise InputError(f"Ray cannot be used at {address!r}: check --address. It says: {reason}") from error
        try:
            yield address == LOCAL
        finally:
            ray.shutdown()


@contextmanager
def _keep_sigterm() -> Iterator[None]:
    """Put the handler of SIGTERM back, which Ray replaces by one that aborts the process."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _check_address(address: str) -> None:
    if "://" in address:
        raise InputError(
            f"{address} is an address for Ray Client, where Ray Data does not run: run this on a machine of the "
            "cluster with --address auto, or give host:port."
        )
    host, colon, port = address.rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"No Ray cluster answers at {address} ({error}): check --address.") from error


def allocate_workers(actors: int | None, local: bool) -> Allocation:
    """Give each worker a GPU if there are any, else the same number of cores, as many as fit the machines.

    Without `actors` there is one worker a GPU or, without GPUs, one a machine. Raises `InputError` if a machine on its
    own has too little; a cluster may still grow.
    """
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(machine.get("GPU", 0) for machine in machines))
    cores = [int(machine.get("CPU", 0)) for machine in machines]
    workers = actors or gpus or sum(core > 0 for core in cores) or 1
    available, unit = (gpus, "GPUs") if gpus else (sum(cores), "processor cores")
    shortage = f"{workers} actors need as many {unit}, and there are {available}"
    if local and workers > available:
        raise InputError(f"{shortage}: give fewer with --actors.")
    note = f"{shortage}: the others wait for the cluster to grow." if workers > available else None
    if gpus:
        return Allocation(workers, 0, 1, note)
    fits = (cpus for cpus in range(sum(cores) // workers, 0, -1) if sum(core // cpus for core in cores) >= workers)
    return Allocation(workers, next(fits, 1), 0, note)
