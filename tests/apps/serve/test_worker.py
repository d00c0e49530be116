import asyncio
import gc
import threading
import weakref
from functools import partial

import pytest
import torch

from foveate.apps.serve.worker import ModelWorker, QueueFull, WorkerStopped
from served import PATIENCE, wait_for


@pytest.fixture
def worker():
    worker = ModelWorker(2)
    yield worker
    worker.close()


async def all_events(job):
    return [event async for event in job.events()]


def test_jobs_run_one_after_another_in_order(worker):
    order = []

    def work(number):
        def run(job):
            order.append(number)
            job.emit(number)
            job.emit(threading.current_thread().name)

        return run

    async def main():
        jobs = [worker.submit(work(n)) for n in range(3)]
        return [await all_events(job) for job in jobs]

    assert asyncio.run(main()) == [[n, "foveate-worker"] for n in range(3)]
    assert order == [0, 1, 2]


def test_events_come_while_the_work_goes_on(worker):
    async def main():
        gate = threading.Event()
        job = worker.submit(lambda job: (job.emit("first"), gate.wait(PATIENCE), job.emit("second")))
        events = job.events()
        assert await anext(events) == "first"
        gate.set()
        return [event async for event in events]

    assert asyncio.run(main()) == ["second"]


def test_an_error_reaches_the_submitter_and_the_next_job_runs(worker):
    async def main():
        def broken(job):
            job.emit(1)
            raise KeyError("broken")

        bad, good = worker.submit(broken), worker.submit(lambda job: job.emit(2))
        with pytest.raises(KeyError, match="broken"):
            await all_events(bad)
        return await all_events(good)

    assert asyncio.run(main()) == [2]


def test_a_cancelled_job_frees_its_place_in_a_full_queue(worker):
    async def main():
        gate, ran = threading.Event(), []
        jobs = [worker.submit(lambda job: gate.wait(PATIENCE))]
        jobs += [worker.submit(lambda job: ran.append(1)) for _ in range(2)]
        assert worker.count_jobs() == (1, 2)
        with pytest.raises(QueueFull):
            worker.submit(lambda job: None)
        jobs[1].cancel()
        assert worker.count_jobs() == (1, 1)
        jobs.append(worker.submit(lambda job: ran.append(2)))
        gate.set()
        for job in jobs:
            assert await all_events(job) == []
        await asyncio.to_thread(lambda: wait_for(lambda: worker.count_jobs() == (0, 0)))
        return ran

    assert asyncio.run(main()) == [1, 2]
    assert worker.count_jobs() == (0, 0)


def test_nothing_records_gradients(worker):
    async def main():
        job = worker.submit(lambda job: job.emit(torch.is_grad_enabled()))
        return await all_events(job)

    assert asyncio.run(main()) == [False]


def test_close_cancels_the_running_job_and_never_starts_the_rest():
    worker = ModelWorker(5)

    async def main():
        began, ran = threading.Event(), []

        def long(job):
            began.set()
            wait_for(lambda: job.cancelled)
            ran.append("long")

        first = worker.submit(long)
        second = worker.submit(lambda job: ran.append("second"))
        assert began.wait(PATIENCE)
        await asyncio.to_thread(worker.close)
        for job in (first, second):
            with pytest.raises(WorkerStopped):
                await all_events(job)
        return ran

    assert asyncio.run(main()) == ["long"]


def test_a_closed_event_loop_cancels_the_job(worker):
    gate, states = threading.Event(), []

    def work(job):
        gate.wait(PATIENCE)
        job.emit(1)
        states.append(job.cancelled)

    async def main():
        worker.submit(work)

    asyncio.run(main())
    gate.set()

    async def later():
        return await all_events(worker.submit(lambda job: job.emit(2)))

    assert asyncio.run(later()) == [2]
    assert states == [True]


def test_a_cancelled_job_ends_at_once_and_frees_its_work(worker):
    class Payload:
        pass

    async def main():
        gate, began, payload = threading.Event(), threading.Event(), Payload()
        alive = weakref.ref(payload)
        running = worker.submit(lambda job: (began.set(), gate.wait(PATIENCE), job.emit("late")))
        waiting = worker.submit(partial(lambda payload, job: None, payload))
        del payload
        assert began.wait(PATIENCE)
        for job in (running, waiting):
            job.cancel()
            assert await all_events(job) == []
        gc.collect()
        assert alive() is None
        gate.set()

    asyncio.run(main())
