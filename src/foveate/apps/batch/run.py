"""The run: shards without answers go to the workers, and a shard counts once it is on disk."""

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foveate.apps.batch.cluster import allocate_workers, check_ray, connect, handle_interrupts
from foveate.apps.batch.folder import ShardCount, check_folder, clean_up, count_finished, find_damaged, read_reason
from foveate.apps.batch.formats import open_source
from foveate.apps.batch.settings import BatchSettings
from foveate.apps.batch.source import SAME_PATH, Scan
from foveate.apps.batch.workers import BatchJob, answer_shards
from foveate.apps.results import claim_folder, make_progress, open_folder
from foveate.errors import InputError, ModelError


@dataclass(frozen=True)
class BatchOutcome:
    """The folder, the rows answered and set aside (`earlier` of them before this call), the call's seconds, and notes.

    The seconds include starting Ray and loading models.
    """

    out: Path
    answered: int
    bad: int
    earlier: int
    seconds: float
    notes: tuple[str, ...]

    @property
    def speed(self) -> float:
        """Rows a second of this call."""
        return (self.answered + self.bad - self.earlier) / self.seconds

    def to_record(self) -> dict[str, Any]:
        """What `--json` prints."""
        fields = {**asdict(self), "out": str(self.out), "notes": list(self.notes)}
        return {**fields, "seconds": round(self.seconds, 3), "rows_per_second": round(self.speed, 3)}


def run(
    questions: Path,
    out: Path,
    settings: BatchSettings,
    *,
    shard: int = 256,
    actors: int | None = None,
    address: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> BatchOutcome:
    """Answer every row of a file once, with `shard` rows in a file of answers; continue a run that was killed.

    `actors` and `address` are as in `allocate_workers` and `connect`. `about` is saved with the settings: a run
    continues only if both are the same.

    Raises a `FoveateError` if something cannot be used, if `out` holds another run, if the file changes before the run
    is over, or if no row could be answered.
    """
    settings.check()
    check_ray()
    started, source, out = time.perf_counter(), open_source(questions), out.absolute()
    with open_folder(out):
        scan = source.scan(shard)
        if not scan.shards:
            raise InputError(f"{questions} holds no row: give at least one question.")
        check_folder(out)
        claim_folder(out, {**settings.to_record(), "input": scan.fingerprint, "shard": shard, **(about or {})})
        clean_up(out)
        before = count_finished(out, scan.shards)
        job = BatchJob(settings.make_absolute(), source, out)
        notes = _answer_rest(job, scan, before, actors, address)
        source.check_unchanged(scan)
        counts = count_finished(out, scan.shards)
        if len(counts) < len(scan.shards):
            raise InputError(f"{len(scan.shards) - len(counts)} files of answers are not in {out}: {SAME_PATH}.")
        clean_up(out)
    (answered, bad), (earlier, earlier_bad) = _add_up(counts), _add_up(before)
    if not answered:
        raise InputError(f"None of the {bad} rows could be answered: {read_reason(out, scan.shards[0])}")
    return BatchOutcome(out, answered, bad, earlier + earlier_bad, time.perf_counter() - started, notes)


def _answer_rest(
    job: BatchJob, scan: Scan, finished: Mapping[int, ShardCount], actors: int | None, address: str | None
) -> tuple[str, ...]:
    """Let workers answer the shards that are not finished; returns notes for the reader."""
    todo = [shard for shard in scan.shards if shard.number not in finished]
    damaged = find_damaged(job.out, todo)
    notes = dict.fromkeys(f"{name} was damaged: its rows were answered again." for name in damaged)
    with make_progress() as bar:
        task = bar.add_task("rows", total=scan.rows, completed=sum(_add_up(finished)))
        if not todo:
            return tuple(notes)
        with handle_interrupts() as check_interrupt, connect(address) as local:
            allocation = allocate_workers(actors, local)
            if allocation.note:
                print(f"Note: {allocation.note}", file=sys.stderr)
            try:
                for rows, more_notes in answer_shards(job, todo, allocation):
                    check_interrupt()
                    notes.update(dict.fromkeys(more_notes))
                    bar.advance(task, rows)
            except ModelError:
                job.source.check_unchanged(scan)  # names the first row that changed, not the first that was read
                raise
    return tuple(notes)


def _add_up(counts: Mapping[int, ShardCount]) -> tuple[int, int]:
    """Rows that were answered, and rows that were set aside."""
    return sum(count.answered for count in counts.values()), sum(count.bad for count in counts.values())
