"""A soak of `foveate serve`: is a request lost, its answer wrong or doubled under load, faults and restarts?

    .venv/bin/python benchmarks/soak.py --minutes 30

It serves the bundled model on a free port of 127.0.0.1, and clients send it requests of the stock client (whole and
streamed, one and several images and turns, several settings), malformed ones, large ones in bursts, more at once than
may wait, leave in the middle, and send or read slowly. Every reply is compared with that of the quiet server. Each
server ends with SIGTERM under load, and another one starts: a request that it had accepted is answered, or refused in
words. Prints two tables, writes them as JSON, and exits with 1 if a request was lost, wrong or doubled.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from soak_load import SoakLoad, read_usage
from soak_record import BAD, to_table
from soak_server import SoakServer

OUT = Path(__file__).parent / "results" / "soak.json"
GRACES = ("30", "0.2")  # of servers in turn: the first finishes its requests at the end, the second refuses them
LAST_LOAD = 1.0  # seconds of load between the last count and SIGTERM


def live(load: SoakLoad, log: Path, seconds: float, grace: str) -> dict[str, Any]:
    """The life of one server: load, a look at its counts when it is idle, and SIGTERM under load; its memory."""
    load.server = server = SoakServer(log, ("--grace", grace))
    try:
        if len(load.quiet) == 1:
            load.learn()
        first = read_usage(server.wait_until_idle())
        load.peaks = dict(first)
        load.open.set()
        time.sleep(seconds)
        load.wait_for_clients()
        metrics = server.wait_until_idle()
        load.record.check_counts(metrics.get("foveate_requests_total:200", 0))
        load.open.set()
        time.sleep(LAST_LOAD)
        stop = server.stop()
    except (OSError, httpx.HTTPError) as error:
        load.record.add("server", "lost", 0.0, why=f"{error!r}; its log: {log.read_text()[-2000:]}")
        return {"grace": grace}
    finally:
        server.kill()
        load.wait_for_clients()
        load.record.answers = load.record.left = 0
    for fault in server.find_faults():
        load.record.add("server", "wrong", 0.0, why=fault)
    last, rows = read_usage(metrics), {"grace": grace, "seconds": round(seconds), "seconds_to_stop": round(stop, 1)}
    for name in first:
        rows |= {f"{name}_first": first[name], f"{name}_peak": load.peaks[name], f"{name}_last": last[name]}
    return rows


def run_soak(minutes: float, clients: int, seed: int, lives: int) -> dict[str, Any]:
    """All lives; the record as JSON."""
    load, servers = SoakLoad(clients, seed), {}
    threads = [threading.Thread(target=load.run_client) for _ in range(clients)]
    threads.append(threading.Thread(target=load.run_watch))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        for thread in threads:
            thread.start()
        try:
            for n in range(lives):
                servers[f"server {n + 1}"] = live(load, log, 60 * minutes / lives, GRACES[n % len(GRACES)])
        finally:
            load.ended.set()
            for thread in threads:
                thread.join()
    rows = load.record.to_rows()
    settings = {"minutes": minutes, "clients": clients, "seed": seed}
    return {**settings, "requests": rows, "servers": servers, "faults": load.record.faults}


def main() -> None:
    """Run, print, write, and exit with 1 if something was lost, wrong or doubled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, default=2.0, help="of load; starts, stops and first answers come on top"
    )
    parser.add_argument("--clients", type=int, default=6, help="that wait for a reply at a time, without bursts")
    parser.add_argument("--servers", type=int, default=4, help="that run one after the other")
    parser.add_argument("--seed", type=int, default=0, help="of the requests")
    parser.add_argument("--out", type=Path, default=OUT, help="the JSON")
    options = parser.parse_args()
    record = run_soak(options.minutes, options.clients, options.seed, options.servers)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(to_table(record["requests"]), to_table(record["servers"]), *record["faults"], sep="\n\n")
    total = record["requests"]["all"]
    sys.exit(1 if any(total[name] for name in BAD) or not total["answered"] else 0)


if __name__ == "__main__":
    main()
