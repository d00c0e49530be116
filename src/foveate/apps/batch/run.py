"""The run: what is not answered yet is handed out, and every shard is on disk before it counts."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foveate.apps.batch import folder
from foveate.apps.batch.cluster import check_ray, connected, interruptible, share_out
from foveate.apps.batch.settings import Settings
from foveate.apps.batch.source import EVERYWHERE, open_source
from foveate.apps.batch.workers import Job, answered
from foveate.apps.results import claim_folder, make_progress
from foveate.errors import InputError


@dataclass(frozen=True)
class Outcome:
    """Where the answers are, how many rows were answered and how many set aside, of them how many before this call,
    its seconds with all that starts and loads, and what the user should know.
    """

    out: Path
    answered: int
    bad: int
    earlier: int
    seconds: float
    notes: tuple[str, ...]

    @property
    def speed(self) -> float:
        """Rows a second, of this call."""
        return (self.answered + self.bad - self.earlier) / self.seconds

    def record(self) -> dict[str, Any]:
        """What `--json` prints."""
        fields = {**asdict(self), "out": str(self.out), "notes": list(self.notes)}
        return {**fields, "seconds": round(self.seconds, 3), "rows_per_second": round(self.speed, 3)}


def run(
    questions: Path, out: Path, settings: Settings, *, shard: int = 256, actors: int | None = None,
    address: str | None = None, about: Mapping[str, Any] | None = None,
) -> Outcome:  # fmt: skip
    """Answer every row of a file once, `shard` rows a file of answers; go on where a killed run stopped.

    `actors` and `address` are as in `share_out` and `connected`; `about` is kept beside the settings, and must be the
    same too for a run to go on.

    Raises a `FoveateError` if something cannot be used, if `out` holds another run, or if no row could be answered.
    """
    settings.check()
    check_ray()
    started = time.perf_counter()
    source, out = open_source(questions), out.absolute()
    scan = source.scan(shard)
    if not scan.shards:
        raise InputError(f"{questions} holds no row: give at least one question.")
    folder.check(out)
    claim_folder(out, {**asdict(settings), "input": scan.fingerprint, "shard": shard, **(about or {})})
    folder.clear(out)
    there = folder.counts(out, scan.shards)
    earlier = sum(count.answered + count.bad for count in there.values())
    todo = [each for each in scan.shards if each.number not in there]
    notes: dict[str, None] = {}
    with make_progress() as bar:
        task = bar.add_task("rows", total=scan.rows, completed=earlier)
        if todo:
            with interruptible() as check, connected(address) as local:
                share = share_out(actors, local)
                if share.note:
                    print(f"Note: {share.note}", file=sys.stderr)
                for done in answered(Job(settings.anywhere(), source, out), todo, share):
                    check()
                    notes.update(dict.fromkeys(done.notes))
                    bar.advance(task, done.rows)
    there = folder.counts(out, scan.shards)
    if len(there) < len(scan.shards):
        raise InputError(f"{len(scan.shards) - len(there)} files of answers are not in {out}: {EVERYWHERE}.")
    folder.clear(out)
    good, bad = (sum(getattr(count, name) for count in there.values()) for name in ("answered", "bad"))
    if not good:
        raise InputError(f"None of the {bad} rows could be answered: {folder.reason(out, scan.shards[0])}")
    return Outcome(out, good, bad, earlier, time.perf_counter() - started, tuple(notes))
