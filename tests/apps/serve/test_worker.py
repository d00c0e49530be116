import asyncio
import gc
import threading
import weakref
from functools import partial

import pytest
import torch

from foveate.apps.serve.worker import Busy, Stopped, Worker
from served import wait_for


@pytest.fixture
def worker():
    found = Worker(2)
    yield found
    found.close()


async def told(job):
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
        return [await told(job) for job in jobs]

    assert asyncio.run(main()) == [[n, "foveate-worker"] for n in range(3)]
    assert order == [0, 1, 2]


def test_events_come_while_the_work_goes_on(worker):
    async def main():
        gate = threading.Event()
        job = worker.submit(lambda job: (job.emit("first"), gate.wait(10), job.emit("second")))
        events = job.events()
        assert await anext(events) == "first"
        gate.set()
        return [event async for event in events]

    assert asyncio.run(main()) == ["second"]


def test_an_error_reaches_who_asked_and_the_next_job_runs(worker):
    async def main():
        def broken(job):
            job.emit(1)
            raise KeyError("broken")

        bad, good = worker.submit(broken), worker.submit(lambda job: job.emit(2))
        with pytest.raises(KeyError, match="broken"):
            await told(bad)
        return await told(good)

    assert asyncio.run(main()) == [2]


def test_the_queue_is_full_and_a_cancelled_job_gives_its_place_up(worker):
    async def main():
        gate, ran = threading.Event(), []
        jobs = [worker.submit(lambda job: gate.wait(10))]
        jobs += [worker.submit(lambda job: ran.append(1)) for _ in range(2)]
        assert worker.load() == (1, 2)
        with pytest.raises(Busy):
            worker.submit(lambda job: None)
        jobs[1].cancel()
        assert worker.load() == (1, 1)
        jobs.append(worker.submit(lambda job: ran.append(2)))
        gate.set()
        for job in jobs:
            assert await told(job) == []
        await asyncio.to_thread(lambda: wait_for(lambda: worker.load() == (0, 0)))
        return ran

    assert asyncio.run(main()) == [1, 2]
    assert worker.load() == (0, 0)


def test_nothing_records_gradients(worker):
    async def main():
        job = worker.submit(lambda job: job.emit(torch.is_grad_enabled()))
        return await told(job)

    assert asyncio.run(main()) == [False]


def test_close_ends_what_runs_and_never_begins_the_rest():
    worker = Worker(5)

    async def main():
        began, ran = threading.Event(), []

        def long(job):
            began.set()
            while not job.cancelled:
                pass
            ran.append("long")

        first = worker.submit(long)
        second = worker.submit(lambda job: ran.append("second"))
        assert began.wait(10)
        await asyncio.to_thread(worker.close)
        for job in (first, second):
            with pytest.raises(Stopped):
                await told(job)
        return ran

    assert asyncio.run(main()) == ["long"]


def test_a_loop_that_is_gone_ends_the_work(worker):
    gate, seen = threading.Event(), []

    def work(job):
        gate.wait(10)
        job.emit(1)
        seen.append(job.cancelled)

    async def main():
        worker.submit(work)

    asyncio.run(main())
    gate.set()

    async def later():
        return await told(worker.submit(lambda job: job.emit(2)))

    assert asyncio.run(later()) == [2]
    assert seen == [True]


def test_a_cancelled_job_tells_so_at_once_and_lets_go_of_what_it_holds(worker):
    class Picture:
        pass

    async def main():
        gate, began, held = threading.Event(), threading.Event(), Picture()
        seen = weakref.ref(held)
        running = worker.submit(lambda job: (began.set(), gate.wait(10), job.emit("late")))
        waiting = worker.submit(partial(lambda picture, job: None, held))
        del held
        assert began.wait(10)
        for job in (running, waiting):
            job.cancel()
            assert await told(job) == []
        gc.collect()
        assert seen() is None
        gate.set()

    asyncio.run(main())
