"""Peak memory of one call, and free memory: the process's own on Linux, the allocator's on CUDA."""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

STATUS, CLEAR, MEMORY = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of mallopt(3)
RESET_PEAK = "5"  # see proc(5)


@dataclass(frozen=True)
class MemoryPeak:
    """Bytes in use before a call (mostly weights), and the most that the call used on top of them."""

    before: int
    above: int


def measure_peak(call: Callable[[], object], device: torch.device) -> MemoryPeak | None:
    """Run `call` and return its peak, or None where neither Linux nor CUDA counts.

    On a CPU it is the process's resident memory, after all free memory was returned to the system.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return MemoryPeak(before, torch.cuda.max_memory_allocated(device) - before)
    if device.type != "cpu":
        call()
        return None
    with _return_free_memory():
        counted = _reset_peak()
        before = _read_bytes(STATUS, "VmRSS") or 0
        call()
        return MemoryPeak(before, max(0, (_read_bytes(STATUS, "VmHWM") or 0) - before)) if counted else None


def read_free_memory(device: str) -> int | None:
    """Free bytes on a device ("cpu" or "cuda"); None where they cannot be read."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return _read_bytes(MEMORY, "MemAvailable") if device == "cpu" else None


@contextmanager
def _return_free_memory() -> Iterator[None]:
    """Let glibc return the pages of freed tensors at once, because memory that it keeps would count as used.

    Afterwards glibc does not adapt its thresholds any more, so the values that it usually reaches are set.
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


def _reset_peak() -> bool:
    """Return free memory and reset the peak; False if that did not work."""
    with suppress(AttributeError, OSError):  # another C library: free memory that it keeps counts as used before
        ctypes.CDLL(None).malloc_trim(0)
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _read_bytes(path: Path, name: str) -> int | None:
    """A number of bytes from one of the kernel's tables, whose kB are 1024 bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
