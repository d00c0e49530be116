"""Reading and decoding beside the model's work: nothing holds the model, and everything has an end."""

import asyncio
import socket
import threading
import time
from contextlib import suppress

import httpx
import pytest
from PIL import Image

from demo_client import make_body, running_demo
from foveate.apps.serve import images, transport, worker
from foveate.apps.serve.app import make_app
from foveate.apps.serve.chat_request import MAX_PARTS
from foveate.apps.serve.errors import RequestError
from foveate.apps.serve.images import ImageSource, decode_images
from foveate.apps.serve.settings import ServeLimits, ServeSettings
from foveate.apps.serve.worker import ModelWorker
from foveate.errors import ImageError
from served import (
    EXIT_CODES,
    PATIENCE,
    body,
    busy,
    content,
    data_url,
    get,
    open_request,
    post,
    refusal,
    running_app,
    scan_bomb,
    serving,
    to_file,
    wait_for,
)  # fmt: skip

MIB = 2**20
SECONDS = 4.0  # of a core

# -- beside the model ----------------------------------------------------------------------------------------------


def test_a_prompt_that_is_too_long_is_refused_while_the_model_works(bundled):
    """The model's thread reads no such text: it is refused before it waits for it."""
    app = make_app(bundled, ServeSettings())
    with running_app(app) as server, busy(server, app.state.worker):
        for text in ("word " * 3000, "x" * 60_000, "\u4e16" * 20_000):
            assert refusal(post(server.url, body("bundled", text)), 400)["code"] == "context_length_exceeded"
        wrong = body("bundled", [{"type": "text", "text": "a"}] * (MAX_PARTS + 1))
        assert refusal(post(server.url, wrong), 400)["param"] == "messages.0.content"
        assert app.state.worker.count_jobs() == (1, 0)


def test_the_model_answers_while_another_body_is_read(bundled):
    """A request that has been read has its answer although the reader is busy; one that has not waits its time."""
    app = make_app(bundled, ServeSettings())
    answers = []
    with running_app(app) as server, busy(server, app.state.worker) as gate:
        client = threading.Thread(target=lambda: answers.append(post(server.url, body("bundled", "how many?"))))
        client.start()
        wait_for(lambda: app.state.worker.count_jobs() == (1, 1))
        with busy(server, app.state.reader):
            gate.set()
            client.join(PATIENCE)
            assert answers[0].status_code == 200
            with open_request(server.url, body("bundled", "how many?")):
                wait_for(lambda: app.state.reader.count_jobs() == (1, 1))
            wait_for(lambda: app.state.reader.count_jobs() == (1, 0))  # its client left
            assert get(f"{server.url}/health").status_code == 200


def test_reading_has_a_time_limit(bundled, monkeypatch):
    monkeypatch.setattr(transport, "PREPARE_SECONDS", 0.2)
    app = make_app(bundled, ServeSettings())
    with running_app(app) as server:
        with busy(server, app.state.reader):
            assert refusal(post(server.url, body("bundled", "how many?")), 503)["code"] == "busy"
        monkeypatch.undo()
        assert post(server.url, body("bundled", "how many?")).status_code == 200
    with running_demo(bundled) as demo:
        monkeypatch.setattr(transport, "PREPARE_SECONDS", 0.2)
        with busy(demo, demo.app.state.reader):
            assert demo.post("/look", make_body()).status_code == 503


def test_an_image_that_takes_long_to_decode_is_refused(monkeypatch):
    """A progressive JPEG may pass over all of its pixels for every few bytes."""
    bomb = scan_bomb(2000, 20_000)
    assert len(ImageSource(10**7, MIB).read([data_url(bomb, "image/jpeg")])) == 1
    monkeypatch.setattr(images, "DECODE_SECONDS", 0.5)
    start = time.thread_time()
    with pytest.raises(ImageError, match="to decode"):
        decode_images([bomb])
    assert time.thread_time() - start < SECONDS
    assert decode_images([scan_bomb(200, 2)])[0].size == (200, 200)


def test_decoding_ends_when_its_client_leaves():
    leaves = threading.Event()
    leaves.set()
    with pytest.raises(ImageError):
        decode_images([scan_bomb(2000, 20_000)], leaves.is_set)


def test_a_header_that_takes_long_to_read_is_refused(monkeypatch):
    monkeypatch.setattr(images, "DECODE_SECONDS", 0.0)
    with pytest.raises(ImageError, match="to decode"):
        ImageSource(10**7, MIB).read([data_url(to_file(Image.new("RGB", (9, 9)), "GIF"), "image/gif")])


# -- the end -------------------------------------------------------------------------------------------------------


def test_closing_has_a_limit(monkeypatch):
    monkeypatch.setattr(worker, "CLOSE_SECONDS", 0.1)
    gate, began, stuck = threading.Event(), threading.Event(), ModelWorker(2)

    async def submit():
        stuck.submit(lambda job: (began.set(), gate.wait(PATIENCE)))

    asyncio.run(submit())
    assert began.wait(PATIENCE)
    stuck.close()
    assert stuck.is_alive()
    gate.set()
    wait_for(lambda: not stuck.is_alive())


def test_a_server_stops_while_large_bodies_are_read():
    with serving("--grace", "1") as (process, url, log):
        threads = [
            threading.Thread(target=open_and_leave, args=[url, request])
            for request in (
                body("bundled", "a" * (19 * MIB)),
                body("bundled", "word " * 3_900_000),
                {"model": "bundled", "messages": [{"role": "user", "content": "a"}] * 65_000},
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        process.terminate()
        start = time.monotonic()
        assert process.wait(PATIENCE) in EXIT_CODES
        assert time.monotonic() - start < 60  # grace, cancelled requests and the two threads: below 15 on an idle core
        for thread in threads:
            thread.join(PATIENCE)
        assert "Traceback" not in log.read_text()


def open_and_leave(url, request):
    with suppress(httpx.TransportError):  # the server may end in the middle of it
        post(url, request)


def test_fetching_has_one_time_limit_for_all_images(monkeypatch):
    """A site that sends the lines of its answer one by one would otherwise take its time for each."""
    monkeypatch.setattr(images, "FETCH_SECONDS", 1.0)
    with socket.socket() as slow:
        slow.bind(("127.0.0.1", 0))
        slow.listen()
        origin = f"http://127.0.0.1:{slow.getsockname()[1]}"
        ended = threading.Event()

        def trickle():
            connection, _ = slow.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not ended.wait(0.1):
                    connection.sendall(b"a: b\r\n")

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        source = ImageSource(1000, 10_000, (origin,))
        with pytest.raises(RequestError, match="within 1 seconds"):
            asyncio.run(source.fetch([f"{origin}/{n}.png" for n in range(16)]))
        ended.set()
        thread.join(PATIENCE)


def test_limits_of_images_are_checked_before_they_are_read(bundled):
    app = make_app(bundled, ServeSettings(limits=ServeLimits(images=3)))
    with running_app(app) as server:
        request = body("bundled", content("what", *["data:image/png;base64,AAAA"] * 4000))
        assert refusal(post(server.url, request), 400)["code"] == "too_many_images"
