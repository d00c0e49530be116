"""Ray Data's actors: each loads a model, and answers one shard after another."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foveate.apps.batch.cluster import Allocation
from foveate.apps.batch.engines import open_engine
from foveate.apps.batch.engines.base import BatchEngine
from foveate.apps.batch.folder import record_attempt, write_shard
from foveate.apps.batch.settings import BatchSettings
from foveate.apps.batch.shard import ShardAnswers
from foveate.apps.batch.source import SAME_PATH, QuestionSource, Shard
from foveate.apps.results import RUN
from foveate.errors import FoveateError, InputError, ModelError

MAX_ATTEMPTS = 4  # at a shard, by workers that die of it
MAX_SHARD_SECONDS = 6 * 3600  # for every worker to finish a shard


@dataclass(frozen=True)
class BatchJob:
    """What every worker receives."""

    settings: BatchSettings
    source: QuestionSource
    out: Path


class BatchWorker:
    """One model. Failures are returned as a sentence, because Ray does not deliver an exception as it was raised."""

    def __init__(self, job: BatchJob) -> None:
        self._job = job
        self._engine: BatchEngine | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Answer one shard, which arrives as its fields, and write it."""
        fields: dict[str, Any] = {
            name: str(column[0]) if name == "digests" else int(column[0]) for name, column in batch.items()
        }
        shard = Shard(**fields)
        try:
            result = {"shard": shard.number, "rows": shard.rows, "notes": self._answer(shard)}
        except FoveateError as error:
            result = {"refusal": str(error)}
        except OSError as error:
            result = {
                "refusal": f"{self._job.out} cannot be written ({error}): make room, and run the same command again."
            }
        return {"result": [json.dumps(result)]}

    def _answer(self, shard: Shard) -> list[str]:
        out, settings = self._job.out, self._job.settings
        header = self._read_header()
        if record_attempt(out, shard.number) > MAX_ATTEMPTS:
            raise ModelError(
                f"Workers died {MAX_ATTEMPTS} times at rows {shard.first} to {shard.first + shard.rows - 1}, probably "
                "for lack of memory: give fewer --actors, or a smaller --batch or --model. Finished answers stay."
            )
        if self._engine is None:  # loaded here, so that a worker that dies of it has recorded an attempt
            self._engine = open_engine(settings)
        answers = ShardAnswers(self._engine, settings.batch)
        answers.answer(self._job.source, shard)
        if self._read_header() != header:
            raise InputError(f"Another run began in {out}: give each run its own folder.")
        write_shard(out, shard.number, answers.answers, answers.bad)
        return [*self._engine.notes, *([answers.note] if answers.note else [])]

    def _read_header(self) -> bytes:
        """The settings of the run in the folder; a worker whose driver was killed must not write into the next run."""
        try:
            return (self._job.out / RUN).read_bytes()
        except OSError as error:
            raise InputError(f"A machine of the cluster does not see {self._job.out}: {SAME_PATH}.") from error


def answer_shards(job: BatchJob, shards: Sequence[Shard], allocation: Allocation) -> Iterator[tuple[int, list[str]]]:
    """Yield rows and notes of each shard when it is on disk. Ray replaces workers that die, and repeats their shard.

    Raises a `FoveateError` if a worker refuses, if workers keep dying, or if none can be started.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext
    from ray.data.exceptions import ExecutionTimeoutError

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failures arrive as errors
    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = MAX_SHARD_SECONDS
    rows = ray.data.from_items([asdict(shard) for shard in shards], override_num_blocks=len(shards))
    results = rows.map_batches(
        BatchWorker,
        fn_constructor_args=(job,),
        batch_size=1,
        num_cpus=allocation.cpus or None,
        num_gpus=allocation.gpus or None,
        compute=ActorPoolStrategy(size=min(allocation.workers, len(shards)), max_tasks_in_flight_per_actor=1),
    )
    try:
        for batch in results.iter_batches(batch_size=None, prefetch_batches=0):
            for result in map(json.loads, batch["result"]):
                if "refusal" in result:
                    raise ModelError(result["refusal"])
                yield result["rows"], result["notes"]
    except ray.exceptions.RayTaskError:
        raise  # a fault of ours
    except (ray.exceptions.RayError, ExecutionTimeoutError) as error:
        raise ModelError(
            "The workers cannot be started, or their machines are gone. Finished answers stay; run the same command "
            f"again to continue. Ray says: {' '.join(str(error).split())[:500]}"
        ) from error
