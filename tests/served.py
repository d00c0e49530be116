"""Servers for tests, in a thread of this process or as a process of their own, and requests to them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import socket
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
from urllib.parse import urlsplit

import httpx
import uvicorn
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from foveate.apps.serve.run import address, bind, make_config

PATIENCE = 300.0  # seconds: it only ends a test that hangs, so that no result depends on the machine's speed
EXIT_CODES = (0, -signal.SIGTERM)  # of a stopped server; uvicorn raises the signal again once everything is closed
FOVEATE = Path(sys.executable).with_name("foveate")
PAUSED = Path(__file__).with_name("paused.py")


@contextmanager
def running_app(app) -> Iterator[SimpleNamespace]:
    """A server in a thread: its `url`, and `on_loop(coroutine)`, which runs something on its event loop."""
    with bind("127.0.0.1", 0) as listener:
        server = uvicorn.Server(make_config(app, closing=5, log_level="warning"))
        loops = []

        async def main():
            loops.append(asyncio.get_running_loop())
            await server.serve(sockets=[listener])

        thread = threading.Thread(target=asyncio.run, args=(main(),))
        thread.start()
        try:
            wait_for(lambda: server.started)

            def on_loop(coroutine):
                return asyncio.run_coroutine_threadsafe(coroutine, loops[0]).result(PATIENCE)

            yield SimpleNamespace(url=address(listener), on_loop=on_loop)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


def wait_for(condition) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "the condition was never met"
        time.sleep(0.01)


# -- images and requests -------------------------------------------------------------------------------------------


def to_file(image, kind: str = "PNG", **options) -> bytes:
    """The image as the bytes of a file."""
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def data_url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def bomb(width: int, height: int) -> bytes:
    """A PNG file of zeros, a thousand times as large once it is decoded."""
    row = b"\0" * (1 + (width + 7) // 8)
    deflate = zlib.compressobj(9)
    rows = b"".join(deflate.compress(row * 100) for _ in range(height // 100)) + deflate.flush()

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + check

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def scan_bomb(side: int, scans: int) -> bytes:
    """A progressive JPEG file of a black image, each of whose scans of a few bytes passes over all of it."""
    data = to_file(Image.new("L", (side, side)), "JPEG", progressive=True)
    starts = [match.start() for match in re.finditer(b"\xff\xda", data)]
    first, second = starts[1], data.index(b"\xff\xc4", starts[1])
    return data[:first] + data[first:second] * scans + data[first:]


def content(question: str, *urls: str) -> list[dict]:
    """A user's turn: images, then text."""
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [*images, *([{"type": "text", "text": question}] if question else [])]


def body(model: str, turn: object, **more: object) -> dict:
    """A request of one turn, answered greedily."""
    return {"model": model, "temperature": 0, "messages": [{"role": "user", "content": turn}], **more}


def post(url: str, json: object = None, **more: object) -> httpx.Response:
    headers = {"Content-Type": "application/json", **more.pop("headers", {})}
    path = f"{url}/v1/chat/completions"
    return httpx.post(path, json=json, headers=headers, timeout=PATIENCE, trust_env=False, **more)


def get(url: str, **more: object) -> httpx.Response:
    return httpx.get(url, timeout=PATIENCE, trust_env=False, **more)


@contextmanager
def open_request(url: str, request: dict, *, part: float = 1.0) -> Iterator[socket.socket]:
    """The connection of a client that has sent a chat request, or a part of it; it disconnects at the end."""
    sent = json.dumps(request).encode()
    parts = urlsplit(url)
    lines = ("POST /v1/chat/completions HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: application/json")
    head = "\r\n".join((*lines, f"Content-Length: {len(sent)}", "", "")).encode()
    with socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE) as connection:
        connection.sendall(head + sent[: int(part * len(sent))])
        yield connection


def read_metrics(url: str) -> dict[tuple[str, ...], float]:
    """Every sample of /metrics, by name and labels."""
    text = get(f"{url}/metrics").text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def refusal(response: httpx.Response, status: int) -> dict:
    """The error object of a refused request, with its form checked."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].endswith(".")
    return error


# -- a busy model --------------------------------------------------------------------------------------------------


@contextmanager
def busy(server, worker) -> Iterator[threading.Event]:
    """The worker runs a job until the event is set, or the block is left."""
    gate, began = threading.Event(), threading.Event()

    async def submit():
        return worker.submit(lambda job: (began.set(), gate.wait(PATIENCE)))

    server.on_loop(submit())
    assert began.wait(PATIENCE)
    try:
        yield gate
    finally:
        gate.set()


@contextmanager
def paused_model(model, step: int) -> Iterator[SimpleNamespace]:
    """The model waits before its forward pass number `step` from now on.

    `reached` is set then, `release` lets it go on, `steps` are the passes so far.
    """
    state = SimpleNamespace(reached=threading.Event(), release=threading.Event(), steps=[])

    def pause(_module, _arguments):
        state.steps.append(1)
        if len(state.steps) == step:
            state.reached.set()
            state.release.wait(PATIENCE)

    hook = model.register_forward_pre_hook(pause)
    try:
        yield state
    finally:
        state.release.set()
        hook.remove()


# -- processes -----------------------------------------------------------------------------------------------------


@contextmanager
def serving(*options, pause: Path | None = None, program: Path = FOVEATE, **environment):
    """A server process, its address, and the file of its output.

    While the file `pause` exists every answer stops half-way (see paused.py).
    """
    command = [program] if pause is None else [sys.executable, PAUSED, pause]
    with NamedTemporaryFile("w", suffix=".log", delete=False) as out:
        log = Path(out.name)
        process = subprocess.Popen(
            [*command, "serve", "--port", "0", *options], stdout=out, stderr=out,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )  # fmt: skip
    try:

        def is_up():
            assert process.poll() is None, log.read_text()
            url = re.search(r"http://\S+(?=/v1)", log.read_text())
            try:
                return url and get(f"{url[0]}/health").status_code == 200
            except httpx.TransportError:
                return False

        wait_for(is_up)
        yield process, re.search(r"http://\S+(?=/v1)", log.read_text())[0], log
    finally:
        process.kill()
        process.wait()
        log.unlink()
