"""A server for tests: the real application under the real uvicorn, in a thread of this process, and requests to it."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from types import SimpleNamespace

import httpx
import uvicorn

from foveate.serve.run import address, bind


@contextmanager
def running(app) -> Iterator[SimpleNamespace]:
    """Its `url`, and `on_loop(coroutine)` to run something where its handlers run."""
    with bind("127.0.0.1", 0) as listens:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5))
        loops = []

        async def main():
            loops.append(asyncio.get_running_loop())
            await server.serve(sockets=[listens])

        thread = threading.Thread(target=asyncio.run, args=(main(),))
        thread.start()
        try:
            wait_for(lambda: server.started)

            def on_loop(coroutine):
                return asyncio.run_coroutine_threadsafe(coroutine, loops[0]).result(20)

            yield SimpleNamespace(url=address(listens), on_loop=on_loop)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def wait_for(done, seconds: float = 20.0) -> None:
    """Until it is so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


def packed(picture, kind: str = "PNG", **how) -> bytes:
    """The picture as a file."""
    out = BytesIO()
    picture.save(out, kind, **how)
    return out.getvalue()


def data_url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def content(question: str, *urls: str) -> list[dict]:
    """A user's turn: pictures, then words."""
    shown = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [*shown, *([{"type": "text", "text": question}] if question else [])]


def body(model: str, turn: object, **more: object) -> dict:
    """A request of one turn, answered greedily."""
    return {"model": model, "temperature": 0, "messages": [{"role": "user", "content": turn}], **more}


def post(url: str, json: object = None, **more: object) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json=json, timeout=60, trust_env=False, **more)


@contextmanager
def blocked(server, worker) -> Iterator[threading.Event]:
    """The model's thread at work until the event is set, or the block is left."""
    gate, began = threading.Event(), threading.Event()

    async def submit():
        return worker.submit(lambda job: (began.set(), gate.wait(30)))

    server.on_loop(submit())
    assert began.wait(10)
    try:
        yield gate
    finally:
        gate.set()
