"""A load on a server that may be killed: what its clients do and count, and which processes are left."""

from __future__ import annotations

import importlib
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
KINDS = ("ask", "leave", "ask", "wrong", "ask")


class FaultLoad:
    """Clients that ask (and, as the stock client does, ask again after a failure), leave, and send what is refused.

    `place` puts settings into a request: at its top, or where vLLM has them without the middleware.
    """

    def __init__(
        self, url: str, monkeypatch: pytest.MonkeyPatch, place: Callable[[dict[str, Any]], dict[str, Any]] = dict
    ) -> None:
        monkeypatch.syspath_prepend(BENCHMARKS)
        self.clients, self.requests = (importlib.import_module(f"soak_{name}") for name in ("clients", "requests"))
        make, turn, images = self.requests.make_request, self.requests.make_turn, self.requests.URLS
        self.good = [
            make(turn(question, images[n]), **place({"keep": keep}))
            for n, (question, keep) in enumerate(zip(self.requests.QUESTIONS, (0.05, 0.1, 58, 0.5, 1.0), strict=True))
        ]
        bad = ({"keep": 0}, {"keep": True}, {"method": "clever"})
        self.bad = [make(turn("what", images[0]), **place(own)) for own in bad]
        self.url, self.counts, self.faults = url, Counter(), list[str]()
        self.numbers, self.over = itertools.count(), threading.Event()
        self.quiet = [self.ask(n) for n in range(len(self.good))]

    def ask(self, n: int) -> str:
        """The answer to request `n`, by OpenAI's client, which sends it again until it is answered."""
        import openai

        request = self.good[n % len(self.good)]
        with openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=40, timeout=300) as client:
            answer = client.chat.completions.create(model="bundled", messages=[], extra_body=request)
        return f"{answer.choices[0].message.content} {answer.usage.prompt_tokens}"

    def run_client(self) -> None:
        """Send requests until the load is over."""
        while not self.over.is_set():
            n = next(self.numbers)
            kind = KINDS[n % len(KINDS)]
            try:
                getattr(self, f"do_{kind}")(n)
                self.counts[kind] += 1
            except Exception as error:
                self.faults.append(f"{kind} {n}: {error!r}")

    def do_ask(self, n: int) -> None:
        """An answer that differs from the quiet server's is a fault."""
        answer = self.ask(n)
        if answer != self.quiet[n % len(self.good)]:
            self.faults.append(f"request {n}: {answer!r}, not {self.quiet[n % len(self.good)]!r}")

    def do_leave(self, n: int) -> None:
        """A client that goes away before, or in the middle of, its answer."""
        ways = self.clients.LEAVES
        with suppress(OSError):  # the server was not there
            self.clients.leave(self.url, self.good[n % len(self.good)], ways[n % len(ways)])

    def do_wrong(self, n: int) -> None:
        """A request that is refused, unless there is nobody to refuse it."""
        reply = self.clients.post(self.url, json.dumps(self.bad[n % len(self.bad)]).encode())
        if not reply.error and reply.status not in (400, 500, 503):
            self.faults.append(f"wrong request {n}: {reply}")
        self.counts["refused"] += reply.status == 400


def find_children(pid: int) -> dict[int, str]:
    """All processes below this one, with their command lines."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            parents[int(path.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    names = {}
    for child in found - {pid}:
        with suppress(OSError):
            names[child] = Path(f"/proc/{child}/cmdline").read_text()
    return names


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def wait_for(what, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)
