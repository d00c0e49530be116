"""Clients that send slowly, nothing, or read nothing: they lose their place, and others keep theirs."""

import json
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from foveate.apps.serve import connections, transport
from foveate.apps.serve.app import make_app
from foveate.apps.serve.connections import make_room
from foveate.apps.serve.settings import ServeLimits, ServeSettings
from served import (
    FOVEATE,
    PATIENCE,
    body,
    get,
    open_request,
    post,
    read_metrics,
    refusal,
    running_app,
    serving,
    wait_for,
)  # fmt: skip

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no address 127.0.0.2")
HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"


@contextmanager
def connected(url, source="127.0.0.1"):
    """A connection from an address of this machine."""
    parts = urlsplit(url)
    with socket.create_connection(
        (parts.hostname, parts.port), timeout=PATIENCE, source_address=(source, 0)
    ) as connection:
        yield connection


def is_closed(connection):
    """Whether the server closes the connection; waits for it."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def send_until_closed(connection, data):
    """Send the same again and again until the server closes the connection."""
    end = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < end, "the connection was never closed"
        try:
            connection.sendall(data)
        except TimeoutError:
            continue
        except ConnectionError:
            return
        time.sleep(0.05)


def read_answer(connection):
    """The status line of an answer; the rest is read too."""
    with connection.makefile("rb") as lines:
        status = lines.readline()
        length = next(int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length"))
        assert next(line for line in lines if not line.strip())  # the end of the headers
        lines.read(length)
    return status


def chunked_head(url):
    return (HEAD.format(host=urlsplit(url).netloc) + "Transfer-Encoding: chunked\r\n\r\n").encode()


def head(url, length):
    return (HEAD.format(host=urlsplit(url).netloc) + f"Content-Length: {length}\r\n\r\n").encode()


# -- headers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [b"", b"GET /health HTTP/1.1\r\n", b"POST /v1/chat/completions HTTP/1.1\r\nHost: a"])
def test_headers_have_a_time_limit(server, monkeypatch, start):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
    with connected(server.url) as connection:
        connection.sendall(start)
        assert is_closed(connection)


def test_a_trickle_of_headers_has_the_same_limit(server, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    with connected(server.url) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        send_until_closed(connection, b"a: b\r\n")


def test_the_second_request_of_a_connection_has_the_limit_too(server, monkeypatch):
    with connected(server.url) as connection:
        request = f"GET /health HTTP/1.1\r\nHost: {urlsplit(server.url).netloc}\r\n\r\n".encode()
        connection.sendall(request)
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
        connection.sendall(request)
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        assert is_closed(connection)


def test_a_request_that_takes_longer_than_that_is_answered(server, monkeypatch):
    """The limit is for headers: a body has its own, and an answer none."""
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.2)
    with open_request(server.url, body("bundled", "how many?"), part=0.5) as connection:
        time.sleep(0.6)
        sent = json.dumps(body("bundled", "how many?")).encode()
        connection.sendall(sent[len(sent) // 2 :])
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def test_the_rest_of_a_refused_body_is_not_waited_for(server, monkeypatch):
    """A client that goes on sending after its answer holds no connection."""
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    with connected(server.url) as connection:
        connection.sendall(head(server.url, 10**9))
        assert b" 413 " in connection.recv(100)
        send_until_closed(connection, b"a")


# -- bodies --------------------------------------------------------------------------------------------------------


def test_a_trickling_body_is_refused(server, monkeypatch):
    """Each byte comes in time, but not enough of them: long before the limit of the whole body."""
    monkeypatch.setattr(transport, "FIRST_SECONDS", 0.5)
    with connected(server.url) as connection:
        connection.sendall(head(server.url, 1000))
        answers = []
        reader = threading.Thread(target=lambda: answers.append(connection.recv(1000)))
        reader.start()
        while reader.is_alive():
            connection.sendall(b" ")
            time.sleep(0.02)
        assert b" 408 " in answers[0]


def test_a_body_at_the_minimum_rate_is_read(server, monkeypatch):
    monkeypatch.setattr(transport, "FIRST_SECONDS", 0.2)
    monkeypatch.setattr(transport, "MIN_RATE", 100)
    sent = json.dumps(body("bundled", "how many?")).encode().ljust(2000)
    with connected(server.url) as connection:
        connection.sendall(head(server.url, len(sent)))
        for start in range(0, len(sent), 200):
            connection.sendall(sent[start : start + 200])
            time.sleep(0.1)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


@linux
def test_bodies_of_one_address_leave_room_for_others(bundled):
    """It has half of the places; the other address, /health and /metrics are answered meanwhile."""
    app = make_app(bundled, ServeSettings(limits=ServeLimits(waiting=3)))
    with running_app(app) as server, ExitStack() as stack:
        for _ in range(8):
            connection = stack.enter_context(connected(server.url, "127.0.0.2"))
            connection.sendall(head(server.url, 1000) + b"{")
        refused = ("foveate_requests_total", "429")
        wait_for(lambda: read_metrics(server.url).get(refused) == 4)
        assert post(server.url, body("bundled", "how many?")).status_code == 200
        assert get(f"{server.url}/health").status_code == 200
        with connected(server.url, "127.0.0.2") as late:
            late.sendall(head(server.url, 1000))
            answer = late.recv(2000)
            assert b" 429 " in answer
            assert b"retry-after" in answer.lower()
        with connected(server.url, "127.0.0.2") as health:
            health.sendall(f"GET /health HTTP/1.1\r\nHost: {urlsplit(server.url).netloc}\r\n\r\n".encode())
            assert health.recv(100).startswith(b"HTTP/1.1 200")


def test_places_are_given_back(bundled):
    app = make_app(bundled, ServeSettings(limits=ServeLimits(waiting=0)))
    with running_app(app) as server:
        for _ in range(3):
            with open_request(server.url, body("bundled", "how many?"), part=0.5):
                refused = post(server.url, body("bundled", "how many?"))
                assert refusal(refused, 429)["code"] == "too_many_requests"
            wait_for(lambda: post(server.url, body("bundled", "how many?")).status_code == 200)


@pytest.mark.parametrize("size", [1, 16, 64])
def test_small_chunks_are_refused(server, size):
    """Each of them takes time, so that a few clients would keep all others waiting."""
    with connected(server.url) as connection:
        connection.sendall(chunked_head(server.url))
        try:
            for _ in range(1000):
                connection.sendall((f"{size:x}\r\n".encode() + b" " * size + b"\r\n") * 1000)
        except ConnectionError:
            pass
        else:
            raise AssertionError("the server read them all")
    wait_for(lambda: get(f"{server.url}/health").status_code == 200)


def test_the_refusal_of_small_chunks_names_the_fix(server):
    with connected(server.url) as connection:
        connection.sendall(chunked_head(server.url) + b"1\r\n \r\n" * (2 * connections.PIECE // 6))
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"send larger ones, or a Content-Length." in answer


def test_small_chunks_behind_a_refusal_close_the_connection(server):
    with connected(server.url) as connection:
        connection.sendall(chunked_head(server.url).replace(b"application/json", b"text/plain"))
        assert b" 415 " in connection.recv(100)
        send_until_closed(connection, b"1\r\n \r\n" * connections.PIECE)


@pytest.mark.parametrize("size", [192, 1000, 100_000])
def test_other_chunks_are_read(server, size):
    """Bodies with ends of lines in them, and the headings of chunks anywhere in a piece."""
    sent = json.dumps(body("bundled", "how many?"), indent=1).replace("\n", "\r\n").encode() + b"\r\n" * 50_000
    parts = (sent[start : start + size] for start in range(0, len(sent), size))
    assert post(server.url, content=parts).status_code == 200


@pytest.mark.parametrize("end", [b"}", b" " * 5000 + b"}"])
def test_requests_behind_a_body_in_chunks_are_not_read_as_its_chunks(server, end):
    """Pipelined requests, of which the second one fills a piece."""
    text = json.dumps(body("bundled", "how many?", max_tokens=2)).encode()[:-1] + end
    chunked = chunked_head(server.url) + f"{len(text):x}\r\n".encode() + text + b"\r\n0\r\n\r\n"
    text = text[:-1] + b" " * 2 * connections.PIECE + b"}"
    with connected(server.url) as connection:
        connection.sendall(chunked + head(server.url, len(text)) + text)
        for _ in range(2):
            assert read_answer(connection).startswith(b"HTTP/1.1 200")


# -- answers -------------------------------------------------------------------------------------------------------


def test_a_client_that_reads_nothing_loses_its_connection(bundled, monkeypatch):
    """It asks again and again on one connection, and its answers fill all buffers."""
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.5)
    with running_app(make_app(bundled, ServeSettings())) as server, connected(server.url) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(1.0)
        request = f"GET /metrics HTTP/1.1\r\nHost: {urlsplit(server.url).netloc}\r\n\r\n".encode()
        send_until_closed(connection, request * 100)
        assert get(f"{server.url}/health").status_code == 200


# -- connections ---------------------------------------------------------------------------------------------------


def test_parts_of_a_response_are_sent_at_once(bundled, monkeypatch):
    """Headers, body and events are written one by one, and must not wait for the client to acknowledge the last."""
    options, made = [], connections.GuardedProtocol.connection_made

    def record(self, transport):
        options.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        made(self, transport)

    monkeypatch.setattr(connections.GuardedProtocol, "connection_made", record)
    with running_app(make_app(bundled, ServeSettings())) as server:
        assert get(f"{server.url}/health").status_code == 200
    assert options
    assert all(options)


class Connection:
    """What `make_room` reads of a connection."""

    def __init__(self, address, since, *, waits=True):
        self.client, self.since, self.awaits_client = (address, 1), since, waits
        self.closed, self.transport = False, SimpleNamespace(is_closing=lambda: self.closed)

    def abort(self):
        self.closed = True


def test_the_oldest_of_the_busiest_address_makes_room():
    busy = [Connection("10.0.0.1", n) for n in (3, 1, 2)]
    other = [Connection("10.0.0.2", 0), Connection("10.0.0.3", 0)]
    make_room([*other, *busy], 5)
    assert not any(one.closed for one in [*other, *busy])
    make_room([*other, *busy], 4)
    assert [one.closed for one in [*other, *busy]] == [False, False, False, True, False]
    make_room([*other, *busy], 4)
    assert sum(one.closed for one in [*other, *busy]) == 1  # the closed one no longer counts


def test_a_request_that_is_being_answered_makes_no_room():
    answered = [Connection("10.0.0.1", 0, waits=False) for _ in range(3)]
    idle = Connection("10.0.0.2", 5)
    make_room([*answered, idle], 3)
    assert idle.closed
    assert not any(one.closed for one in answered)


@pytest.fixture
def limited(tmp_path):
    """A command of foveate with 128 file descriptors."""
    script = tmp_path / "limited.sh"
    script.write_text(f'#!/bin/sh\nulimit -n 128\nexec {FOVEATE} "$@"\n')
    script.chmod(0o755)
    return script


@linux
def test_more_connections_at_once_than_descriptors(limited):
    """All of them wait when the server comes to accept them."""
    with serving(program=limited) as (process, url, log), ExitStack() as stack:
        for _ in range(3):
            process.send_signal(signal.SIGSTOP)
            for _ in range(100):
                stack.enter_context(connected(url))
            process.send_signal(signal.SIGCONT)
            assert get(f"{url}/health").status_code == 200
        assert "Traceback" not in log.read_text()


@linux
def test_more_connections_than_descriptors(limited):
    """200 idle clients, and 60 that sent half a body, of a server with 128 descriptors."""
    with serving(program=limited) as (_, url, log), ExitStack() as stack:
        for number in range(260):
            connection = stack.enter_context(connected(url))
            if number >= 200:
                connection.sendall(head(url, 1000) + b"{")
        for _ in range(5):
            assert get(f"{url}/health").status_code == 200
            assert read_metrics(url)["process_open_fds",] <= 128
        assert post(url, body("bundled", "how many?")).status_code in (200, 429)
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda _: get(f"{url}/health").status_code, range(40)))
        assert statuses == [200] * 40
        assert "Traceback" not in log.read_text()
