"""`Worker`: the one thread that runs the model, one job after another, and the jobs that wait for it."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import torch


class Busy(Exception):
    """As many jobs wait as may."""


class Stopped(Exception):
    """The worker takes no more work, and finishes none."""


class Job:
    """Work that was handed in, and what it has told so far.

    `emit` is for the work itself, on the worker's thread; `events` and `cancel` are for who handed it in, on the event
    loop. Work that runs for long looks at `cancelled`.
    """

    def __init__(self, work: Callable[[Job], None]) -> None:
        self._work: Callable[[Job], None] | None = work
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more."""
        return self._cancelled.is_set()

    def cancel(self, error: Exception | None = None) -> None:
        """Let the work stop at its next step, or never begin; its events end at once, with `error` if there is one."""
        self._cancelled.set()
        self._work = None  # and with it the pictures that it holds
        self._tell((None, error))

    def emit(self, event: Any) -> None:
        """Tell something."""
        self._tell((event, None))

    async def events(self) -> AsyncIterator[Any]:
        """What the work tells, as it does, until it is done or cancelled. Raises what the work raised."""
        while True:
            event, error = await self._events.get()
            if error is not None:
                raise error
            if event is None:
                return
            yield event

    def run(self) -> None:
        """Do it, on the worker's thread."""
        work, self._work = self._work, None
        if work is None:
            return
        end: tuple[Any, BaseException | None] = (None, None)
        try:
            work(self)
        except Exception as error:
            end = (None, error)
        self._tell(end)

    def _tell(self, told: tuple[Any, BaseException | None]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, told)
        except RuntimeError:  # the loop has been closed: nobody is left to be told
            self._cancelled.set()


class Worker:
    """Runs jobs in the order in which they come, without gradients; at most `waiting` of them wait."""

    def __init__(self, waiting: int) -> None:
        self.limit = waiting
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock, self._open = threading.Lock(), list[Job]()
        self._thread = threading.Thread(target=self._run, name="foveate-worker", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Job], None]) -> Job:
        """Hand in work. Raises `Busy` where the queue is full; a cancelled job gives its place up at once."""
        job = Job(work)
        with self._lock:
            if self._count() > self.limit:
                raise Busy
            self._open.append(job)
        self._jobs.put(job)
        return job

    def load(self) -> tuple[int, int]:
        """How many jobs run (0 or 1) and how many wait."""
        with self._lock:
            count = self._count()
        return min(count, 1), max(count - 1, 0)

    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Cancel every job: whoever listens to one gets `Stopped`."""
        with self._lock:
            for job in self._open:
                job.cancel(Stopped())

    def close(self) -> None:
        """Stop, and wait until the thread has ended."""
        self.stop()
        self._jobs.put(None)
        self._thread.join()

    def _count(self) -> int:
        return sum(not job.cancelled for job in self._open)

    @torch.no_grad()
    def _run(self) -> None:
        torch.seed()  # answers that are sampled without a seed differ from start to start
        while (job := self._jobs.get()) is not None:
            job.run()
            with self._lock:
                self._open.remove(job)
            del job  # what it holds (pictures) goes before the next one comes
