"""The rows of a part of `gpu.py`: measured one after another in a process of their own, and reported as lines of JSON.

A fault of one row does not end the others: an exception is recorded, memory is freed, and a process that hangs, is
killed, or whose GPU no longer answers is followed by another one for the rows that are left.
"""

import faulthandler
import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from importlib import import_module
from subprocess import PIPE, Popen

import torch

from gpu_timing import GpuSettings, NotRun, Row, Rows

# The parts, and about how many seconds a row of each takes on a GPU.
PARTS = {"laws": 15.0, "kernel": 15.0, "speed": 40.0, "selection": 5.0}
PROCESSES = 3  # that may be started for one part
PATIENCE, LEAST_LIMIT = 5, 60  # a row is stuck after so many times what it should take, and so many seconds at least
GRACE = 30  # seconds for a process to end by itself
Emit = Callable[[Row], object]


def list_rows(part: str, settings: GpuSettings) -> Rows:
    """The rows of a part, by name."""
    rows: Rows = import_module(f"gpu_{part}").make_rows(settings)
    return rows


def measure_rows(rows: Rows, emit: Emit, *, until: float, seconds: float) -> None:
    """Measure rows, and report the start and the result of each.

    Args:
        rows: What to measure.
        emit: Takes `{"start": name}` and `{"row": name, "status": ...}`.
        until: The time (`time.time`) at which the run ends. A row that does not fit is left out.
        seconds: What a row takes, as long as none was slower.
    """
    for name, measure in rows.items():
        left = max(0.0, until - time.time())
        if left < seconds:
            reason = f"{left:.0f} s were left, and it may take {seconds:.0f}"
            emit({"row": name, "status": "left out", "reason": reason})
            continue
        limit = min(left, max(LEAST_LIMIT, PATIENCE * seconds))
        emit({"start": name, "at": time.time(), "limit": limit})
        faulthandler.dump_traceback_later(limit, exit=True, file=sys.__stderr__)
        started = time.monotonic()
        row = _measure(measure)
        faulthandler.cancel_dump_traceback_later()
        spent = time.monotonic() - started
        seconds = max(seconds, spent)
        emit({"row": name, **row, "seconds": round(spent, 2)})


def _measure(measure: Callable[[], Row]) -> Row:
    """The row, and whether it is done, failed, or cannot be measured here."""
    try:
        row = measure()
    except NotRun as reason:
        return {"status": "not run", "reason": str(reason)}
    except Exception as error:  # the record names any failure, and the other rows are still measured
        lines = traceback.format_exc().splitlines()
        row = {"faults": [f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"], "traceback": lines[-12:]}
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return {"status": "failed" if row.get("faults") else "done", **row}


def run_part(
    part: str, settings: GpuSettings, done: Collection[str], report: Emit, *, until: float, seconds: float
) -> None:
    """Measure the rows of a part that are not done, in a process of their own, and report each result.

    Args:
        part: A name of `PARTS`.
        settings: Device and sizes.
        done: Names of rows that are left as they are.
        report: Takes `{"row": name, "status": ...}`.
        until: As in `measure_rows`.
        seconds: As in `measure_rows`.
    """
    left, end = [name for name in list_rows(part, settings) if name not in done], "see the output"
    for _ in range(PROCESSES):
        if not left:
            return
        if until - time.time() < seconds:
            measure_rows(dict.fromkeys(left, dict), report, until=until, seconds=seconds)  # leaves out all of them
            return
        with closing(_run_process(part, settings, left, until, seconds)) as messages:
            for message in messages:
                if "end" in message:
                    end = message["end"]
                else:
                    left.remove(message["row"])
                    report(message)
    fault = f"Not started, as processes of this part ended ({end})."
    for name in left:
        report({"row": name, "status": "failed", "faults": [fault]})


def _run_process(part: str, settings: GpuSettings, names: Sequence[str], until: float, seconds: float) -> Iterator[Row]:
    """The results of a process; of one that dies a failure of the row that it was in, or `{"end": why}`."""
    what = (part, settings.device, settings.scale, str(until), str(seconds), json.dumps(names))
    environment = {**os.environ, "TRITON_INTERPRET": "1" if settings.device == "cpu" else "0"}
    running: Row = {}
    with Popen([sys.executable, __file__, *what], stdin=PIPE, stdout=PIPE, text=True, env=environment) as process:
        timer = threading.Timer(max(0.0, until - time.time()) + GRACE, process.kill)
        timer.daemon = True
        timer.start()
        for line in process.stdout or ():
            if line.endswith("\n"):  # else it was killed while it wrote
                message = json.loads(line)
                running = message if "start" in message else {}
                if "start" not in message:
                    yield message
        code = process.wait()
        timer.cancel()
    if running:
        spent = time.time() - running["at"]
        limit = running["limit"]
        fault = f"The process {f'did not end within {limit:.0f} s' if spent >= limit else _describe_end(code)}."
        yield {"row": running["start"], "status": "failed", "seconds": round(spent, 2), "faults": [fault]}


def _describe_end(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed, as by a system without memory"
    return f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def main(part: str, device: str, scale: str, until: str, seconds: str, names: str) -> None:
    """Measure rows in this process; messages go to what was its standard output, all else to standard error.

    The process ends with its parent, which holds the other end of its standard input.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends, and this process with it
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    messages = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    settings = GpuSettings(device, scale)
    is_gpu = settings.torch_device.type == "cuda"

    def emit(message: Row) -> None:
        messages.write(json.dumps(message) + "\n")
        if message.get("status") == "failed" and is_gpu:
            torch.cuda.synchronize()  # raises, and ends the process, if the GPU no longer answers it

    try:
        if is_gpu:
            torch.cuda.set_device(settings.torch_device)
        rows = list_rows(part, settings)
        gc.freeze()  # what was imported is not searched again each time that memory is measured
        measure_rows({name: rows[name] for name in json.loads(names)}, emit, until=float(until), seconds=float(seconds))
    except Exception as error:
        traceback.print_exc()
        messages.write(json.dumps({"end": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}) + "\n")
        os._exit(1)
    os._exit(0)  # without waiting for the thread


if __name__ == "__main__":
    main(*sys.argv[1:])
