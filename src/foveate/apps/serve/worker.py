"""`ModelWorker`: one thread that runs the model, one job after another, with a bounded queue."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

CLOSE_SECONDS = 5.0
Event = TypeVar("Event")
log = logging.getLogger("uvicorn.error")


class QueueFull(Exception):
    """The maximum number of jobs is waiting."""


class WorkerStopped(Exception):
    """The worker was stopped before the job was done."""


@dataclass(frozen=True)
class JobEnd:
    """Last entry of a job's event queue: the work is done, or it failed with `error`."""

    error: Exception | None = None


class ModelJob(Generic[Event]):
    """Submitted work and the events that it has emitted.

    The work calls `emit` on the worker's thread; the submitter uses `events` and `cancel` on the event loop. Long work
    checks `cancelled`.
    """

    def __init__(self, work: Callable[[ModelJob[Event]], None]) -> None:
        self._work: Callable[[ModelJob[Event]], None] | None = work
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | JobEnd] = asyncio.Queue()
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether the result is no longer needed."""
        return self._cancelled.is_set()

    def cancel(self, error: Exception | None = None) -> None:
        """Stop the work at its next step, or before it starts; `events` ends at once and raises `error` if given."""
        self._cancelled.set()
        self._work = None  # frees the images that it refers to
        self._put(JobEnd(error))

    def emit(self, event: Event) -> None:
        """Send an event to the submitter."""
        self._put(event)

    async def events(self) -> AsyncIterator[Event]:
        """The events of the work until it is done or cancelled. Raises what the work raised."""
        while True:
            event = await self._events.get()
            if not isinstance(event, JobEnd):
                yield event
            else:
                break
        error = event.error
        del event
        try:
            if error is not None:
                raise error
        finally:
            del error  # this frame is in its traceback: a cycle would keep the request in memory

    def run(self) -> None:
        """Run the work; called on the worker's thread."""
        work, self._work = self._work, None
        if work is None:
            return
        try:
            work(self)
        except Exception as error:
            self._put(JobEnd(error))
        else:
            self._put(JobEnd())

    def _put(self, event: Event | JobEnd) -> None:
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the event loop is closed: there is no receiver
            self._cancelled.set()


class ModelWorker:
    """Runs jobs in order of submission, without gradients; at most `limit` jobs wait."""

    def __init__(self, limit: int, name: str = "foveate-worker") -> None:
        self.limit = limit
        self._jobs: queue.SimpleQueue[ModelJob[Any] | None] = queue.SimpleQueue()
        self._lock, self._open = threading.Lock(), list[ModelJob[Any]]()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[ModelJob[Event]], None]) -> ModelJob[Event]:
        """Add work to the queue. Raises `QueueFull`; a cancelled job frees its place at once."""
        job = ModelJob(work)
        with self._lock:
            if self._count() > self.limit:
                raise QueueFull
            self._open.append(job)
        self._jobs.put(job)
        return job

    def count_jobs(self) -> tuple[int, int]:
        """Number of running jobs (0 or 1) and of waiting jobs."""
        with self._lock:
            count = self._count()
        return min(count, 1), max(count - 1, 0)

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Cancel every job with `WorkerStopped`."""
        with self._lock:
            for job in self._open:
                job.cancel(WorkerStopped())

    def close(self) -> None:
        """Cancel every job and wait for the end of the thread, `CLOSE_SECONDS` at most."""
        self.stop()
        self._jobs.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():  # it ends with the process
            log.warning("%s is still at work after %g seconds: it is left behind.", self._thread.name, CLOSE_SECONDS)

    def _count(self) -> int:
        return sum(not job.cancelled for job in self._open)

    @torch.no_grad()
    def _run(self) -> None:
        torch.seed()  # sampling without a seed must differ between two starts of the server
        while (job := self._jobs.get()) is not None:
            job.run()
            with self._lock:
                self._open.remove(job)
            del job  # frees its images before the next job is awaited
