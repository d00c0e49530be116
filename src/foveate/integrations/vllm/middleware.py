"""In front of vLLM's server: a field of a chat request means what it means to `foveate serve` on transformers.

What vLLM would ignore is refused in words. `foveate serve --engine vllm` passes `RequestAdapter` to vLLM's option
`--middleware`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from foveate.apps.serve.errors import RequestError, to_request_error
from foveate.integrations.vllm.engine import read_request_types
from foveate.integrations.vllm.requests import EngineFacts, FieldTypes, adapt_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("uvicorn.error")
PATHS = ("/v1/", "/tokenize")
NOTES = "foveate-notes"
"""The response header that says what of a request has no effect."""


class RequestAdapter:
    """ASGI middleware for vLLM's server."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.types = app, read_request_types()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. vLLM asks for the key before it reads a body."""
        if scope["type"] == "http" and scope["method"] == "POST" and any(part in scope["path"] for part in PATHS):
            exchange = AdaptedExchange(scope, receive, send, self.types)
            await self.app(scope, exchange.receive, exchange.send)
        else:
            await self.app(scope, receive, send)


class AdaptedExchange:
    """A request whose body vLLM gets adapted, and its response, which may be a refusal in the place of vLLM's."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, types: FieldTypes) -> None:
        self.scope, self._receive, self._send, self.types = scope, receive, send, types
        self.was_read = False
        self.refusal: RequestError | None = None
        self.notes: list[str] = []

    async def receive(self) -> Message:
        """The whole body in one message, then what comes after it."""
        if self.was_read or not Headers(scope=self.scope).get("content-type", "").startswith("application/json"):
            return await self._receive()
        self.was_read, body, is_open = True, bytearray(), True
        while is_open:
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            body += message.get("body", b"")
            is_open = message.get("more_body", False)
        return {"type": "http.request", "body": await self._adapt(bytes(body)), "more_body": False}

    async def send(self, message: Message) -> None:
        """vLLM's response with the notes, or the refusal."""
        is_start = message["type"] == "http.response.start"
        if self.refusal is None:
            if is_start and self.notes:
                MutableHeaders(scope=message)[NOTES] = " ".join(self.notes)
            await self._send(message)
        elif is_start:
            await JSONResponse(self.refusal.body(), self.refusal.status)(self.scope, self._receive, self._send)

    async def _adapt(self, body: bytes) -> bytes:
        path = self.scope["path"].removeprefix(self.scope.get("root_path", ""))
        facts = EngineFacts.from_options(self.scope["app"].state.args)
        try:
            adapted, self.notes = await run_in_threadpool(adapt_body, body, path, self.types, facts)
        except Exception as error:
            self.refusal, adapted = to_request_error(error), b""
            if self.refusal.status == 500:
                log.exception("A request could not be adapted to vLLM.")
        return adapted
