"""The clients of `soak.py`: each sends one request and says what became of it."""

from __future__ import annotations

import http.client
import json
import math
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai

TIMEOUT = 240.0  # seconds: whoever waits longer is lost
BUSY = (429, 503)
PAUSE = 0.1  # seconds between two pieces of a slow client
PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class SoakReply:
    """What a client received: an answer, a refusal, or nothing (`error`).

    `content` is what must be the same on a quiet server: text, reason of the end and token counts of an answer, or the
    error object of a refusal. `ends` counts the ends of an answer: 1, if it came whole and once.
    """

    status: int = 0
    content: Any = None
    ids: tuple[str, ...] = ()
    ends: int = 1
    error: str = ""
    sent: float = math.inf

    @property
    def is_busy(self) -> bool:
        """Whether the request was refused because of other requests."""
        return self.status in BUSY


class SoakClient(httpx.Client):
    """A client for one request; `sent` is when the request was sent."""

    def __init__(self) -> None:
        super().__init__(trust_env=False, timeout=TIMEOUT, event_hooks={"request": [self._trace]})
        self.sent = math.inf

    def _trace(self, request: httpx.Request) -> None:
        request.extensions["trace"] = self._note

    def _note(self, event: str, _: dict[str, Any]) -> None:
        if event == "http11.send_request_body.complete":
            self.sent = time.monotonic()


def read_refusal(status: int, body: Any) -> SoakReply:
    """A refusal from its JSON body. One without a sentence is no refusal."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or not str(error.get("message", "")).endswith("."):
        return SoakReply(status, error=f"status {status} without a sentence: {str(body)[:200]}")
    return SoakReply(status, error)


def read_answer(answer: dict[str, Any]) -> SoakReply:
    """An answer in one piece."""
    (choice,), usage = answer["choices"], answer["usage"]
    counts = usage["prompt_tokens"], usage["completion_tokens"], tuple(answer["foveate"]["kept"])
    content = (choice["message"]["content"], choice["finish_reason"], *counts)
    return SoakReply(200, content, (answer["id"],))


def read_stream(chunks: list[dict[str, Any]]) -> SoakReply:
    """An answer from the pieces of a stream."""
    text, reasons, kept, usages = "", [], [], []
    for chunk in chunks:
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            reasons += [choice["finish_reason"]] if choice["finish_reason"] else []
        kept += [tuple(chunk["foveate"]["kept"])] if "foveate" in chunk else []
        usages += [chunk["usage"]] if chunk.get("usage") else []
    if not len(reasons) == len(kept) == len(usages) == 1:
        return SoakReply(200, text, ends=max(len(reasons), len(kept), len(usages)) if reasons else 0)
    content = (text, reasons[0], usages[0]["prompt_tokens"], usages[0]["completion_tokens"], kept[0])
    return SoakReply(200, content, tuple({chunk["id"] for chunk in chunks}))


def post(url: str, body: Any, kind: str = "application/json") -> SoakReply:
    """Send a body as it is; an iterator is sent in chunks."""
    with SoakClient() as client:
        try:
            response = client.post(url + PATH, content=body, headers={"Content-Type": kind})
            reply = read_answer(response.json()) if response.status_code == 200 else read_refusal(*_parts(response))
        except (httpx.TransportError, ValueError) as error:
            reply = SoakReply(error=repr(error))
        return replace(reply, sent=client.sent)


def _parts(response: httpx.Response) -> tuple[int, Any]:
    return response.status_code, response.json()


def ask(url: str, request: dict[str, Any], *, stream: bool, pause: float = 0.0) -> SoakReply:
    """Send a request with the stock client, and wait `pause` seconds before each piece of a stream is read."""
    with SoakClient() as http_client:
        options = {"base_url": f"{url}/v1", "api_key": "none", "max_retries": 0, "timeout": TIMEOUT}
        with openai.OpenAI(**options, http_client=http_client) as client:
            return replace(_ask(client, request, stream, pause), sent=http_client.sent)


def _ask(client: openai.OpenAI, request: dict[str, Any], stream: bool, pause: float) -> SoakReply:
    own = {name: request[name] for name in ("keep", "method", "positions") if name in request}
    options: dict[str, Any] = {name: value for name, value in request.items() if name not in own}
    if stream:
        options |= {"stream": True, "stream_options": {"include_usage": True}}
    try:
        answer = client.chat.completions.create(**options, extra_body=own)
        if not stream:
            return read_answer(answer.model_dump())
        chunks = []
        for chunk in answer:
            chunks.append(chunk.model_dump())
            time.sleep(pause)
        return read_stream(chunks)
    except openai.APIStatusError as error:
        return read_refusal(error.status_code, {"error": error.body})
    except (openai.APIConnectionError, httpx.TransportError) as error:
        return SoakReply(error=repr(error.__cause__ or error))
    except openai.APIError as error:  # the last event of a stream
        return read_refusal(503 if error.code in ("stopping", "out_of_memory") else 500, {"error": error.body})


def send_slowly(url: str, request: dict[str, Any]) -> SoakReply:
    """Send a body in ten pieces, with pauses."""
    body = json.dumps(request).encode()

    def pieces() -> Iterator[bytes]:
        for n in range(10):
            time.sleep(PAUSE)
            yield body[n * len(body) // 10 : (n + 1) * len(body) // 10]

    return post(url, pieces())


LEAVES = ("in the head", "in the body", "before the answer", "in the answer", "trickling", "unread")


def leave(url: str, request: dict[str, Any], how: str) -> None:
    """Send all of a request or a part of it, and go. Raises OSError if the server was faster."""
    body = json.dumps({**request, "stream": how == "in the answer"}).encode()
    parts = urlsplit(url)
    lines = (f"POST {PATH} HTTP/1.1", "Host: " + parts.netloc, "Content-Type: application/json")
    message = "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode() + body
    size = {"in the head": 60, "trickling": 60, "in the body": len(message) // 2}.get(how, len(message))
    with socket.create_connection((parts.hostname, parts.port), timeout=TIMEOUT) as connection:
        connection.sendall(message[:size])
        if how == "in the answer":
            connection.recv(100)
        if how == "unread":  # the answer comes, and nobody reads it
            time.sleep(5 * PAUSE)
        if how == "trickling":
            for n in range(size, size + 20):
                time.sleep(PAUSE)
                connection.sendall(message[n : n + 1])


def check_alive(url: str) -> SoakReply:
    """Ask for /health, which is answered whatever the model does."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        return SoakReply(response.status, json.loads(response.read()))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return SoakReply(error=repr(error))
    finally:
        connection.close()
