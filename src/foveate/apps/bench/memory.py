"""Peak memory of one call, and how much is free: the process's own on Linux, the allocator's on CUDA."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

STATUS, CLEAR, MEMORY = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of mallopt(3)
RESET_PEAK = "5"  # what the kernel wants to hear, see proc(5)


@dataclass(frozen=True)
class Peak:
    """Bytes that were held before a call (the weights, above all), and at most during it on top of these."""

    before: int
    above: int


def peak_of(call: Callable[[], object], device: torch.device) -> Peak | None:
    """Run `call` and tell the peak; None where neither Linux nor CUDA counts, after running it all the same.

    On a CPU it is the process's resident memory, after everything free was handed back to the system.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return Peak(before, torch.cuda.max_memory_allocated(device) - before)
    if device.type != "cpu":
        call()
        return None
    with _handing_back():
        counted = _reset()
        before = _status("VmRSS") if counted else 0
        call()
        return Peak(before, max(0, _status("VmHWM") - before)) if counted else None


def available(device: str) -> int | None:
    """Bytes that are free on a device ("cpu" or "cuda"); None where nobody tells."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return _entry(MEMORY, "MemAvailable") if device == "cpu" else None


@contextmanager
def _handing_back() -> Iterator[None]:
    """Tensors get pages of their own, which are handed back at once: what glibc keeps for later would count as held.

    It does not go back to choosing the threshold by itself, so what it would have chosen by then is set.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        yield
        return
    set_option(MMAP_THRESHOLD, 1 << 16)
    try:
        yield
    finally:
        set_option(MMAP_THRESHOLD, 32 << 20)
        set_option(TRIM_THRESHOLD, 64 << 20)


def _reset() -> bool:
    """Hand free memory back and forget the old peak; whether that worked."""
    with suppress(AttributeError, OSError):  # another C library: the free memory it keeps counts as held before
        ctypes.CDLL(None).malloc_trim(0)
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _status(name: str) -> int:
    return _entry(STATUS, name) or 0


def _entry(path: Path, name: str) -> int | None:
    """A figure of one of the kernel's tables, whose kB are 1024 bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
