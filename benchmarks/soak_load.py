"""The load of `soak.py`: clients that send requests of every kind, one after the other, and record the outcomes."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import httpx

from soak_clients import LEAVES, SoakReply, ask, check_alive, leave, post, send_slowly
from soak_record import SoakRecord, judge
from soak_requests import good_requests, large_requests, wrong_requests
from soak_server import SoakServer

GOOD = 24
BURST, LARGE_BURST = 48, 6  # the first is more than may wait
STOP_PAUSE = 1.0  # seconds between two requests to a server that stops
READ_PAUSE = 0.2  # seconds between two pieces that a slow reader takes
DECK = ("ask", "stream", "wrong", "leave", "ask", "slow body", "stream", "wrong", "slow reader", "ask", "leave")
SCHEDULE = ("large", *DECK, "burst", *DECK * 7)  # the kinds of requests, over and over
HEALTHY = SoakReply(200, {"status": "ok", "model": "bundled"})


class SoakLoad:
    """The requests, the replies of the quiet server, and the clients of the server that runs.

    Clients send while `open` is set. `peaks` are the largest memory and number of descriptors of the server.
    """

    def __init__(self, clients: int, seed: int) -> None:
        self.clients, self.record = clients, SoakRecord()
        self.good, self.wrong, self.large = good_requests(GOOD, seed), wrong_requests(), large_requests()
        self.quiet: dict[object, SoakReply] = {"health": HEALTHY}
        self.server: SoakServer
        self.peaks = {"memory": 0.0, "descriptors": 0.0}
        self.open, self.ended = threading.Event(), threading.Event()
        self.numbers = itertools.count()
        self.slots = threading.Semaphore(clients)  # one for each client that waits for no reply
        self.actions: dict[str, Callable[[SoakServer, int], None]] = {
            "ask": self.ask,
            "stream": self.stream,
            "slow reader": self.read_slowly,
            "slow body": self.send_slowly,
            "wrong": self.send_wrong,
            "leave": self.leave,
            "large": self.send_large,
            "burst": self.burst,
        }
        self.counters = {kind: itertools.count() for kind in self.actions}

    def learn(self) -> None:
        """Send the quiet server every request once."""
        url = self.server.url
        for n, request in enumerate(self.good):
            self.quiet[n] = ask(url, request, stream=False)
            self.record.answers += 1
        for name, (body, kind) in {**self.wrong, **self.large}.items():
            self.quiet[name] = post(url, body, kind)
        for name, reply in self.quiet.items():
            is_answered = isinstance(name, int) or name == "health"
            if reply.error or (reply.status != 200 if is_answered else not 400 <= reply.status < 500):
                raise SystemExit(f"The quiet server's reply to request {name!r}: {reply}")

    # -- what a client does ------------------------------------------------------------------------------------------

    def check(self, kind: str, name: object, server: SoakServer, send: Callable[[], SoakReply]) -> None:
        """Send a request and record what became of it."""
        start = time.monotonic()
        reply = send()
        was_stopping = min(reply.sent, time.monotonic()) > server.stopping_since
        outcome = judge(reply, self.quiet[name], was_stopping=was_stopping)
        self.record.add(kind, outcome, start, reply, f"request {name!r}: {reply}, quiet: {self.quiet[name]}")

    def ask(self, server: SoakServer, n: int) -> None:
        """A whole answer."""
        self.check("ask", n % GOOD, server, partial(ask, server.url, self.good[n % GOOD], stream=False))

    def stream(self, server: SoakServer, n: int) -> None:
        """A stream."""
        self.check("stream", n % GOOD, server, partial(ask, server.url, self.good[n % GOOD], stream=True))

    def read_slowly(self, server: SoakServer, n: int) -> None:
        """A stream that is read slowly."""
        send = partial(ask, server.url, self.good[n % GOOD], stream=True, pause=READ_PAUSE)
        self.check("slow reader", n % GOOD, server, send)

    def send_slowly(self, server: SoakServer, n: int) -> None:
        """A body that arrives slowly."""
        self.check("slow body", n % GOOD, server, partial(send_slowly, server.url, self.good[n % GOOD]))

    def send_wrong(self, server: SoakServer, n: int) -> None:
        """A malformed request."""
        name = list(self.wrong)[n % len(self.wrong)]
        self.check("wrong", name, server, partial(post, server.url, *self.wrong[name]))

    def leave(self, server: SoakServer, n: int) -> None:
        """A client that leaves."""
        start = time.monotonic()
        with suppress(OSError):  # the server ended first, or refused the rest
            leave(server.url, self.good[n % GOOD], LEAVES[n % len(LEAVES)])
        self.record.add("leave", "left", start)

    def send_large(self, server: SoakServer, n: int) -> None:
        """Large bodies at once."""

        def send(name: str) -> None:
            self.check("large", name, server, partial(post, server.url, *self.large[name]))

        first = n % len(self.large)
        with ThreadPoolExecutor(LARGE_BURST) as pool:
            list(pool.map(send, itertools.islice(itertools.cycle(self.large), first, first + LARGE_BURST)))

    def burst(self, server: SoakServer, n: int) -> None:
        """More requests at once than may wait."""

        def send(k: int) -> None:
            body = json.dumps(self.good[k % GOOD]).encode()
            self.check("burst", k % GOOD, server, partial(post, server.url, body))

        with ThreadPoolExecutor(BURST) as pool:
            list(pool.map(send, range(n, n + BURST)))

    # -- threads -----------------------------------------------------------------------------------------------------

    def run_client(self) -> None:
        """Send one request after the other while the load is open."""
        while not self.ended.is_set():
            if not self.open.wait(0.1):
                continue
            with self.slots:
                if self.open.is_set():
                    kind = SCHEDULE[next(self.numbers) % len(SCHEDULE)]
                    self.actions[kind](self.server, next(self.counters[kind]))
            time.sleep(STOP_PAUSE if self.server.is_stopping else 0)

    def run_watch(self) -> None:
        """Ask for health and metrics every second."""
        while not self.ended.wait(1):
            if self.open.is_set() and not (server := self.server).is_stopping:
                self.check("health", "health", server, partial(check_alive, server.url))
                self.check("metrics", "health", server, partial(self._read_peaks, server))

    def _read_peaks(self, server: SoakServer) -> SoakReply:
        try:
            metrics = server.read_metrics()
        except (OSError, httpx.HTTPError) as error:
            return SoakReply(error=repr(error))
        for name, value in read_usage(metrics).items():
            self.peaks[name] = max(self.peaks[name], value)
        return HEALTHY

    def wait_for_clients(self) -> None:
        """Let no client begin a request, and wait until none waits for a reply."""
        self.open.clear()
        for _ in range(self.clients):
            self.slots.acquire()
        self.slots.release(self.clients)


def read_usage(metrics: dict[str, float]) -> dict[str, float]:
    """MiB of memory and open descriptors of the server, from its metrics."""
    memory = round(metrics["process_resident_memory_bytes"] / 2**20, 1)
    return {"memory": memory, "descriptors": metrics["process_open_fds"]}
