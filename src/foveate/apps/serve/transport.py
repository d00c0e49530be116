"""HTTP helpers of the server and the demo: bounded bodies, and jobs that end when their client disconnects."""

import asyncio
import ctypes
import logging
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from foveate.apps.serve.errors import RequestError, clear_frames, to_request_error
from foveate.apps.serve.worker import Event, ModelJob, ModelWorker, QueueFull

READ_SECONDS = 60  # time limit for a body
FIRST_SECONDS, MIN_RATE = 10, 2**15  # a body may be late by so much, and then comes with so many bytes a second
PREPARE_SECONDS = 30  # time limit for all checks of a body
CLIENT_CLOSED = 499  # nginx's status for a client that closed the connection
LARGE = 2**20  # bytes of a body whose memory is worth returning to the system
TRIM_SECONDS = 1.0
log = logging.getLogger("uvicorn.error")


def add_error_handlers(app: FastAPI, to_response: Callable[[RequestError], Response]) -> None:
    """Answer refused requests, unknown paths and unknown methods with `to_response`."""

    @app.exception_handler(RequestError)
    async def refuse_request(_: Request, error: RequestError) -> Response:
        return to_response(error)

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}."
        response = to_response(RequestError(error.status_code, message))
        response.headers.update(error.headers or {})  # Allow
        return response


def refuse(error: Exception, text: str) -> RequestError:
    """The refusal for an exception, which no longer refers to the request; internal failures are logged with a text."""
    refusal = to_request_error(error)
    if refusal.status == 500:
        log.error(text, exc_info=error)
    clear_frames(error)
    return refusal


class RequestLimiter:
    """Limits how many requests send their bodies at a time, since bodies take memory.

    One client address has half of the places at most. `has_large` says whether one of the bodies was large since the
    last time that there was none.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.active, self.has_large = limit, Counter[str](), False

    @contextmanager
    def admit(self, request: Request) -> Iterator[None]:
        """A place while the block runs. Raises `QueueFull`, or `RequestError` if the client has too many."""
        address = request.client.host if request.client else ""
        if self.active[address] >= max(self.limit // 2, 1):
            message = "Too many requests from this address are being sent: wait for their answers, then try again."
            raise RequestError(429, message, code="too_many_requests")
        if self.active.total() >= self.limit:
            raise QueueFull
        self.active[address] += 1
        try:
            yield
        finally:
            self.active -= Counter([address])  # drops addresses without a place
            if self.has_large and not self.active:
                self.has_large = False
                asyncio.get_running_loop().call_later(TRIM_SECONDS, trim_memory)


def trim_memory() -> None:
    """Return freed memory to the system, where the C library (glibc) would keep it for the next large body."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


async def read_json(request: Request, limit: int, limiter: RequestLimiter) -> bytes:
    """The whole body of at most `limit` bytes. Raises `RequestError` if it is not JSON, too large, slow or cut off."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":  # browsers let pages of other sites send any type but this one
        raise RequestError(415, "The body's type is not JSON: send 'Content-Type: application/json'.")
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    try:
        return await _read_body(request, limit, limiter)
    except TimeoutError as error:
        message = f"The body did not arrive within {READ_SECONDS} seconds, or with less than {MIN_RATE} bytes a second"
        raise RequestError(408, f"{message}: send it again, faster.") from error
    except ClientDisconnect as error:
        raise client_closed() from error


async def prepare(request: Request, reader: ModelWorker, work: Callable[[ModelJob[Event]], None]) -> Event:
    """The one event of a job that runs beside the model. Raises `RequestError` if that takes `PREPARE_SECONDS`."""
    events = stream_events(request, reader.submit(work))
    try:
        async with aclosing(events):
            return await asyncio.wait_for(anext(events), PREPARE_SECONDS)
    except TimeoutError as error:
        raise RequestError(503, "The server is busy with other requests: try again later.", code="busy") from error


async def stream_events(request: Request, job: ModelJob[Event]) -> AsyncGenerator[Event]:
    """The job's events. Cancels the job when the client disconnects or the generator is closed.

    Raises `RequestError` if the job was cancelled, and what the work raised.
    """
    watcher = asyncio.create_task(_cancel_on_disconnect(request, job))
    try:
        async for event in job.events():
            yield event
        if job.cancelled:
            raise client_closed()
    except (GeneratorExit, asyncio.CancelledError):  # the generator is closed early
        job.cancel()
        raise
    finally:
        watcher.cancel()


def client_closed() -> RequestError:
    """499 response for a disconnected client."""
    return RequestError(CLIENT_CLOSED, "The client closed the connection.")


async def _read_body(request: Request, limit: int, limiter: RequestLimiter) -> bytes:
    body, loop, parts = bytearray(), asyncio.get_running_loop(), request.stream()
    start = loop.time()
    while True:
        end = start + min(READ_SECONDS, FIRST_SECONDS + len(body) / MIN_RATE)
        part = await asyncio.wait_for(anext(parts, None), end - loop.time())
        if part is None:
            return bytes(body)
        body += part
        limiter.has_large |= len(body) > LARGE
        if len(body) > limit:
            raise _too_large(limit)


def _too_large(limit: int) -> RequestError:
    message = f"The body has more than {limit} bytes: send fewer or smaller images."
    return RequestError(413, message, code="body_too_large")


async def _cancel_on_disconnect(request: Request, job: ModelJob[Event]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    job.cancel()
