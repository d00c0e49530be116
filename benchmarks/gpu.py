"""Everything that a GPU has to show, in one run of at most eight minutes: `python benchmarks/gpu.py`.

Parts: `laws` (the laws of pruning in float32 and bfloat16 on six families), `kernel` (the Triton kernel against the
loop that it replaces), `speed` (time to first token and peak memory of published shapes, beside the unpruned model and
the limits), `selection` (milliseconds of every rule and method, beside the textbook).

Writes results/gpu-<device>.json after every row. The same command goes on where a run stopped: it measures what is
missing, was left out for want of time, or failed. `--device cpu --small` runs all parts in small sizes.
"""

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from foveate.apps.results import open_folder, write_file
from foveate.errors import FoveateError, InputError
from gpu_markdown import to_markdown
from gpu_record import check_same, describe_device, describe_run, read_record
from gpu_rows import PARTS, list_rows, run_part
from gpu_timing import GpuSettings, Row

RESULTS = Path(__file__).with_name("results")
RUNS = Path(__file__).parents[1] / "runs"  # for what a CPU shows, which is no result
NO_FILE = Path()  # --markdown without a file


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: cuda)")
    parser.add_argument("--small", action="store_const", const="small", dest="scale", help="sizes for minutes on a CPU")
    parser.add_argument("--smallest", action="store_const", const="smallest", dest="scale", help="sizes for tests")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of %(default)s")
    parser.add_argument("--minutes", type=float, default=8, help="what does not fit is left out (default: 8)")
    parser.add_argument("--out", type=Path, help="a folder (default: benchmarks/results, of a CPU runs)")
    parser.add_argument("--fresh", action="store_true", help="forget what the file holds, and measure all anew")
    parser.add_argument(
        "--markdown", type=Path, nargs="?", const=NO_FILE, metavar="FILE",
        help="measure nothing, print this file (default: that of the device) as tables",
    )  # fmt: skip
    return parser.parse_args()


def check_device(name: str) -> str:
    """ "cpu", or a GPU with its number. Raises `InputError` for one that is not there."""
    if name == "cpu":
        return name
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if not match:
        raise InputError(f"--device {name!r} is not for this script: give cuda, cuda:1 or cpu.")
    count = torch.cuda.device_count()
    if not torch.cuda.is_available() or not count:
        raise InputError(
            f"--device {name}: torch {torch.__version__} sees no GPU. Give --device cpu --small to try the script, "
            "or install a torch for your GPU (https://pytorch.org)."
        )
    if int(match[1] or 0) >= count:
        raise InputError(f"--device {name}: torch sees {count} GPUs: give cuda:0 to cuda:{count - 1}.")
    return f"cuda:{match[1] or 0}"


def measure(
    path: Path, settings: GpuSettings, parts: Sequence[str], *, minutes: float, is_fresh: bool
) -> dict[str, Any]:
    """Measure what the file has not yet of these parts, writing it after every row; return its content."""
    until = time.time() + 60 * minutes
    own = describe_run(settings)
    known = None if is_fresh or not path.exists() else read_record(path)
    check_same(path, known or own, own)
    record = {**own, "measured": "", "parts": {}, **(known or {})}
    for part in parts:
        rows = record["parts"].get(part, {})
        names = list(list_rows(part, settings))
        done = [name for name in names if rows.get(name, {}).get("status") == "done"]
        record["parts"][part] = {name: rows[name] for name in done}
        report = partial(add_row, path, record, part, names)
        run_part(part, settings, done, report, until=until, seconds=PARTS[part])
    return record


def add_row(path: Path, record: dict[str, Any], part: str, names: Sequence[str], message: Row) -> None:
    """Write the file with one row more, in the order of `names`, and tell of it."""
    name, row = message["row"], {key: value for key, value in message.items() if key != "row"}
    rows = {**record["parts"][part], name: row}
    record["parts"][part] = {each: rows[each] for each in names if each in rows}
    record["measured"] = datetime.now(UTC).isoformat(timespec="seconds")
    write_file(path, json.dumps(record, indent=1) + "\n")
    why = "; ".join(row.get("faults") or [row.get("reason") or f"{row['seconds']} s"])
    print(f"{part}: {name}: {row['status']} ({why})", flush=True)


def find_file(settings: GpuSettings, out: Path | None) -> Path:
    """The file of results of this device and scale."""
    name = re.sub(r"[^a-z0-9]+", "-", describe_device(settings.device)["name"].lower()).strip("-")
    scale = "" if settings.scale == "full" else f"-{settings.scale}"
    return (out or (RUNS if settings.device == "cpu" else RESULTS)) / f"gpu-{name}{scale}.json"


def summarize(path: Path, record: dict[str, Any], parts: Sequence[str]) -> int:
    """Print what was not measured, and why; return the exit code."""
    states = [(f"{part}: {name}", row["status"]) for part in parts for name, row in record["parts"][part].items()]
    for state in ("left out", "not run", "failed"):
        names = [name for name, status in states if status == state]
        if names:
            print(f"{len(names)} {state}: {'; '.join(names)}")
    print(f"{sum(state == 'done' for _, state in states)} of {len(states)} rows are done: {path}")
    return int(any(state == "failed" for _, state in states))


def main() -> int:
    """Measure, or print tables; return the exit code."""
    options = parse_options()
    if options.markdown is not None and options.markdown != NO_FILE:
        print(to_markdown(read_record(options.markdown)), end="")
        return 0
    parts = list(dict.fromkeys(part.strip() for part in options.parts.split(",")))
    if set(parts) - set(PARTS):
        raise InputError(f"--parts {options.parts!r}: give some of {','.join(PARTS)}.")
    if not 0 < options.minutes < math.inf:
        raise InputError(f"--minutes {options.minutes}: give a number above 0.")
    settings = GpuSettings(check_device(options.device), options.scale or "full")
    path = find_file(settings, options.out)
    if options.markdown is not None:
        print(to_markdown(read_record(path)), end="")
        return 0
    with open_folder(path.parent):
        record = measure(path, settings, parts, minutes=options.minutes, is_fresh=options.fresh)
    return summarize(path, record, parts)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FoveateError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped: the same command goes on.", file=sys.stderr)
        sys.exit(130)
