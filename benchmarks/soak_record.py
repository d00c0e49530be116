"""What became of the requests of a soak: counts, latencies, faults, and the table of them."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from soak_clients import SoakReply

BAD = ("lost", "wrong", "doubled")
OUTCOMES = ("answered", "refused", "busy", "left", "unaccepted", *BAD)
MAX_FAULTS = 50


def judge(reply: SoakReply, quiet: SoakReply, *, was_stopping: bool) -> str:
    """The outcome of a request, by the reply of the quiet server; `was_stopping` if it was sent as the server ended."""
    if reply.error:
        return "unaccepted" if was_stopping and not reply.status else "lost"
    if reply.is_busy:
        return "busy"
    if reply.ends != 1:
        return "doubled" if reply.ends > 1 else "lost"
    if (reply.status, reply.content) != (quiet.status, quiet.content):
        return "wrong"
    return "answered" if reply.status == 200 else "refused"


class SoakRecord:
    """Counts of outcomes by kind of request, seconds until answers, and sentences about faults. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: set[str] = set()
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.faults: list[str] = []
        self.answers = 0  # of the server that runs, without those of its end
        self.left = 0

    def add(self, kind: str, outcome: str, start: float, reply: SoakReply | None = None, why: object = "") -> None:
        """Count a request that began at `start` (monotonic). An answer whose id came before is doubled."""
        with self._lock:
            if reply is not None and outcome == "answered":
                if not self._ids.isdisjoint(reply.ids):
                    outcome, why = "doubled", f"an answer with the id of another one: {reply.ids}"
                self._ids.update(reply.ids)
                self.answers += len(reply.ids)
                self.seconds[kind].append(time.monotonic() - start)
            self.left += outcome == "left"
            self.counts[kind][outcome] += 1
            if outcome in BAD and len(self.faults) < MAX_FAULTS:
                self.faults.append(f"{kind}: {outcome}: {str(why)[:1000]}")

    def check_counts(self, counted: float) -> None:
        """Compare the answers that the server counted with those that clients received, and begin anew.

        A client that leaves may have been answered, if it left too late.
        """
        answers, left, self.answers, self.left = self.answers, self.left, 0, 0
        if counted > answers + left:
            self.add("counts", "doubled", 0.0, why=f"{counted} answers for {answers} requests and {left} that left")
        elif counted < answers:
            self.add("counts", "lost", 0.0, why=f"{counted} answers are counted, {answers} were received")

    def total(self) -> Counter[str]:
        """The counts of all kinds together."""
        return sum(self.counts.values(), Counter())

    def to_rows(self) -> dict[str, dict[str, Any]]:
        """The counts and percentiles of each kind and of all together, as JSON."""
        everything = {**self.counts, "all": self.total()}
        seconds = {
            **self.seconds,
            "all": [one for kind, each in self.seconds.items() if kind != "health" for one in each],
        }
        return {
            kind: {
                "requests": counts.total(),
                **{outcome: counts[outcome] for outcome in OUTCOMES},
                **percentiles(seconds.get(kind, [])),
            }
            for kind, counts in everything.items()
        }


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """The percentiles 50, 95 and 99 of seconds, in milliseconds."""
    if len(values) < 2:
        return dict.fromkeys(("p50_ms", "p95_ms", "p99_ms"), 1000 * values[0] if values else None)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {f"p{n}_ms": round(1000 * cuts[n - 1], 1) for n in (50, 95, 99)}


def to_table(rows: dict[str, dict[str, Any]]) -> str:
    """Rows as a Markdown table, with their names in the first column."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *("" if row.get(c) is None else f"{row[c]:}" for c in columns)] for name, row in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
