"""What is left of refused requests: nothing."""

import asyncio
import gc
import json
import weakref
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from foveate.apps.serve.errors import RequestError
from foveate.apps.serve.transport import refuse
from foveate.apps.serve.worker import ModelWorker
from served import PATIENCE, body, content, data_url, open_request, post, read_metrics, serving, wait_for

MIB = 2**20
BURST = 20
ALONE = httpx.Limits(max_keepalive_connections=0)  # the server closes connections that are idle between bursts


def refused_bodies(size):
    """Bodies of a size that are refused at different steps, with their status."""
    text, damaged = "a" * size, data_url(b"\x89PNG\r\n\x1a\n" + b"\0" * (size * 3 // 4))
    requests = {
        "a key that is missing": (400, {"model": "bundled", "text": text}),
        "a model": (404, body(text, "a")),
        "too many characters": (400, body("bundled", text)),
        "an image": (400, body("bundled", content("what", damaged))),
        "messages": (400, {"model": "bundled", "messages": [{"role": "user", "content": "a" * (size // 2000)}] * 2000}),
        "a wrong keep": (400, body("bundled", content("what", damaged), keep=7.5)),
    }
    bodies = {name: (status, json.dumps(request).encode()) for name, (status, request) in requests.items()}
    return {**bodies, "no JSON": (400, b'{"model": "' + text.encode()), "no text": (400, b"\xff" * size)}


def resident(url):
    return read_metrics(url)["process_resident_memory_bytes",]


@pytest.mark.parametrize(("size", "bursts"), [(2 * MIB, 25), pytest.param(19 * MIB, 8, marks=pytest.mark.heavy)])
def test_refused_bodies_leave_no_memory(size, bursts):
    """Also those that are too large, and those whose clients leave half-way. A large body shows when it stays once."""
    bodies = list(refused_bodies(size).values())
    headers = {"Content-Type": "application/json"}
    with (
        serving("--max-body", str(size // MIB + 1)) as (_, url, log),
        httpx.Client(headers=headers, limits=ALONE, timeout=PATIENCE, trust_env=False) as client,
        ThreadPoolExecutor(BURST) as pool,
    ):
        assert post(url, body("bundled", "how many?")).status_code == 200
        before = resident(url)
        for burst in range(bursts):
            status, data = bodies[burst % len(bodies)]
            responses = pool.map(lambda data: client.post(f"{url}/v1/chat/completions", content=data), [data] * BURST)
            assert {response.status_code for response in responses} == {status}
        assert {post(url, content=b" " * (size + 2 * MIB)).status_code for _ in range(BURST // 4)} == {413}
        for _ in range(BURST):
            with open_request(url, body("bundled", "a" * size), part=0.9):
                pass
        wait_for(lambda: resident(url) < before + 64 * MIB)
        assert post(url, body("bundled", "how many?")).status_code == 200
        assert "Traceback" not in log.read_text()


class Body(bytearray):
    """Bytes that can be watched."""


@pytest.mark.parametrize("on_worker", [False, True])
def test_a_refusal_frees_the_body_without_the_garbage_collector(on_worker):
    """Its exception is raised from another one, by a function that refers to the body and to the exception itself."""

    def work(data):
        refusal = RequestError(400, "No.")
        try:
            json.loads(data)
        except ValueError as error:
            raise refusal from error

    async def refuse_one():
        data = Body(b"{")
        seen = weakref.ref(data)
        try:
            if on_worker:
                job = worker.submit(lambda job, data=data: work(data))
                del data
                async for _ in job.events():
                    pass
            else:
                work(data)
        except Exception as error:
            result = refuse(error, "It failed.")
        return result, seen

    worker = ModelWorker(1)
    gc.disable()
    try:
        result, seen = asyncio.run(refuse_one())
        assert result.message == "No."
        wait_for(lambda: seen() is None)
    finally:
        gc.enable()
        worker.close()
