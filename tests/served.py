"""Servers for tests, in a thread of this process or as a process of their own, and requests to them."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import SimpleNamespace

import httpx
import uvicorn

from foveate.apps.serve.run import address, bind

ENDED = (0, -signal.SIGTERM)  # of a server; uvicorn hands the signal on once everything is closed
FOVEATE = Path(sys.executable).with_name("foveate")


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
    headers = {"Content-Type": "application/json", **more.pop("headers", {})}
    return httpx.post(f"{url}/v1/chat/completions", json=json, headers=headers, timeout=60, trust_env=False, **more)


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


@contextmanager
def serving(*options, **environment):
    """A server process, its address, and the file of what it prints."""
    with NamedTemporaryFile("w", suffix=".log", delete=False) as out:
        log = Path(out.name)
        process = subprocess.Popen(
            [FOVEATE, "serve", "--port", "0", *options], stdout=out, stderr=out,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )  # fmt: skip
    try:

        def up():
            assert process.poll() is None, log.read_text()
            found = re.search(r"http://\S+(?=/v1)", log.read_text())
            try:
                return found and httpx.get(f"{found[0]}/health", trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        wait_for(up, 60)
        yield process, re.search(r"http://\S+(?=/v1)", log.read_text())[0], log
    finally:
        process.kill()
        process.wait()
        log.unlink()


def bomb(width: int, height: int) -> bytes:
    """A PNG file of zeros, a thousand times as large once it is decoded."""
    row = b"\0" * (1 + (width + 7) // 8)
    deflate = zlib.compressobj(9)
    packed_rows = b"".join(deflate.compress(row * 100) for _ in range(height // 100)) + deflate.flush()

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + check

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed_rows) + chunk(b"IEND", b"")
