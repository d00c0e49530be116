"""Ray Data's actors: each holds a model, and is handed one shard after another."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foveate.apps.batch import folder
from foveate.apps.batch.cluster import Share
from foveate.apps.batch.engine import Engine, open_engine
from foveate.apps.batch.settings import Settings
from foveate.apps.batch.source import EVERYWHERE, Shard, Source
from foveate.apps.batch.work import Work
from foveate.apps.results import RUN
from foveate.errors import FoveateError, InputError, ModelError

ATTEMPTS = 4  # at a shard, by workers that die of it
PATIENCE = 6 * 3600  # seconds, for every worker to be done with a shard


@dataclass(frozen=True)
class Job:
    """What every worker is given."""

    settings: Settings
    source: Source
    out: Path


@dataclass(frozen=True)
class Done:
    """A shard that is on disk, its number of rows, and what its worker has to say."""

    shard: int
    rows: int
    notes: tuple[str, ...]


class Worker:
    """One model. What it cannot do it hands back as a sentence: an error would reach nobody as it was raised."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._engine: Engine | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Answer one shard, which comes as its fields, and write it."""
        shard = Shard(**{name: int(column[0]) for name, column in batch.items()})
        try:
            found = {"shard": shard.number, "rows": shard.rows, "notes": self._run(shard)}
        except FoveateError as error:
            found = {"refusal": str(error)}
        except OSError as error:
            found = {"refusal": f"{self._job.out} cannot be written ({error}): make room, and call the same again."}
        return {"found": [json.dumps(found)]}

    def _run(self, shard: Shard) -> list[str]:
        out, settings = self._job.out, self._job.settings
        if not (out / RUN).exists():
            raise InputError(f"A machine of the cluster does not see {out}: {EVERYWHERE}.")
        if folder.attempt(out, shard.number) > ATTEMPTS:
            raise ModelError(
                f"Workers died {ATTEMPTS} times at rows {shard.first} to {shard.first + shard.rows - 1}, probably for "
                "want of memory: give fewer --actors, or a smaller --batch or --model. What is answered stays."
            )
        if self._engine is None:  # here, and not before, so that a worker that dies of it has made an attempt
            self._engine = open_engine(settings)
        work = Work(self._engine, settings.batch)
        work.run(self._job.source, shard)
        folder.write(out, shard.number, work.answers, work.bad)
        return [*self._engine.notes, *([work.note] if work.note else [])]


def answered(job: Job, shards: Sequence[Shard], share: Share) -> Iterator[Done]:
    """The shards, in any order, as they come to lie on disk. Ray starts workers that die anew, and asks again.

    Raises a `FoveateError` if a worker refuses, if workers keep dying, or if none can be started.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext
    from ray.data.exceptions import ExecutionTimeoutError

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong comes as an error
    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = PATIENCE
    rows = ray.data.from_items([asdict(shard) for shard in shards], override_num_blocks=len(shards))
    results = rows.map_batches(
        Worker, fn_constructor_args=(job,), batch_size=1, num_cpus=share.cpus or None, num_gpus=share.gpus or None,
        compute=ActorPoolStrategy(size=min(share.workers, len(shards)), max_tasks_in_flight_per_actor=1),
    )  # fmt: skip
    try:
        for batch in results.iter_batches(batch_size=None, prefetch_batches=0):
            yield from map(_done, batch["found"])
    except ray.exceptions.RayTaskError:
        raise  # a fault of ours
    except (ray.exceptions.RayError, ExecutionTimeoutError) as error:
        raise ModelError(
            "The workers cannot be started, or their machines are gone. What is answered stays, and the same command "
            f"goes on from there. Ray says: {' '.join(str(error).split())[:500]}"
        ) from error


def _done(text: str) -> Done:
    found = json.loads(text)
    if "refusal" in found:
        raise ModelError(found["refusal"])
    return Done(found["shard"], found["rows"], tuple(found["notes"]))
