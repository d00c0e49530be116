"""Ray: a cluster to work on, and what of it each worker gets."""

from __future__ import annotations

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
GRACE = 15.0  # seconds, from an interrupt to the end at the latest
INTERRUPTED = 130
REACH = 10.0  # seconds to be reached in; Ray itself would try for minutes


@dataclass(frozen=True)
class Share:
    """How many workers there are, the processor cores and GPUs of each, and a sentence if there are too few for all."""

    workers: int
    cpus: int
    gpus: int
    note: str | None = None


def check_ray() -> None:
    """Raise `InputError` if there is nothing to run on."""
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise InputError("`foveate batch` needs Ray: pip install 'foveate[batch]'.") from error


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """An interrupt ends the process in the end even if it is lost inside Ray, which it may catch holding a lock.

    Nothing is lost by that: what is on disk is whole. The block gets a function that raises `KeyboardInterrupt` if
    there was one.
    """
    timers: list[threading.Timer] = []

    def check() -> None:
        if timers:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield check
        return

    def leave(number: int, frame: FrameType | None) -> None:
        timers.append(threading.Timer(GRACE, os._exit, (INTERRUPTED,)))
        timers[-1].daemon = True
        timers[-1].start()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
        for timer in timers:
            timer.cancel()


@contextmanager
def connected(address: str | None) -> Iterator[bool]:
    """Ray, for the length of a with-block: a cluster, or (True) a Ray of this machine's own that ends with the block.

    `address` is "auto", host:port, or None: then RAY_ADDRESS decides, if it is set. A Ray that the caller has started
    is used as it is, and left running. Raises `InputError` if there is no cluster.
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
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it calls an error what is meant to be so
    with redirect_stdout(sys.stderr):  # where Ray prints that a worker died
        try:
            ray.init(address, **settings)
        except Exception as error:  # a ConnectionError, a RuntimeError, a ValueError, ...
            reason = " ".join(str(error).split())
            raise InputError(f"Ray cannot be used at {address!r}: check --address. It says: {reason}") from error
        try:
            yield address == LOCAL
        finally:
            ray.shutdown()


def _check_address(address: str) -> None:
    if "://" in address:
        raise InputError(
            f"{address} is an address for Ray Client, through which Ray Data does not run: call this on a machine of "
            "the cluster with --address auto, or give host:port."
        )
    host, colon, port = address.rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"No Ray cluster answers at {address} ({error}): check --address.") from error


def share_out(actors: int | None, local: bool) -> Share:
    """A GPU for each worker where there are any, else the cores in equal parts that fit the machines.

    Without `actors`, one a GPU or, without GPUs, one a machine. Raises `InputError` if a machine on its own has too
    little; a cluster may still grow.
    """
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(machine.get("GPU", 0) for machine in machines))
    cores = [int(machine.get("CPU", 0)) for machine in machines]
    workers = actors or gpus or sum(core > 0 for core in cores) or 1
    there, unit = (gpus, "GPUs") if gpus else (sum(cores), "processor cores")
    short = f"{workers} actors need as many {unit}, and there are {there}"
    if local and workers > there:
        raise InputError(f"{short}: give fewer with --actors.")
    note = f"{short}: the others wait for the cluster to grow." if workers > there else None
    if gpus:
        return Share(workers, 0, 1, note)
    fits = (cpus for cpus in range(sum(cores) // workers, 0, -1) if sum(core // cpus for core in cores) >= workers)
    return Share(workers, next(fits, 1), 0, note)
