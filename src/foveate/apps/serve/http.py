"""What the server and the page share of HTTP: a body that is bounded, and a job whose client may leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from foveate.apps.serve.errors import Refused
from foveate.apps.serve.worker import Busy, Job

READ_SECONDS = 60  # for a body to come in
CLIENT_GONE = 499  # nginx's number for a client that closed the connection


def tell_refusals(app: FastAPI, form: Callable[[Refused], Response]) -> None:
    """Let the application answer with `form` what its handlers refuse, and paths and methods that it does not have."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return form(error)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return form(Refused(error.status_code, f"{request.method} {request.url.path}: {error.detail}."))


class Door:
    """Lets so many requests at a time send their bodies, since what is sent takes memory. Raises `Busy` for more."""

    def __init__(self, most: int) -> None:
        self.most, self.inside = most, 0

    def __enter__(self) -> None:
        if self.inside >= self.most:
            raise Busy
        self.inside += 1

    def __exit__(self, *_: object) -> None:
        self.inside -= 1


async def read_json(request: Request, limit: int) -> bytes:
    """The whole body, of at most `limit` bytes. Raises `Refused` if it is no JSON, too large, too slow or cut off."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a page of another site can send anything but this without asking first
        raise Refused(415, "The body's type is not JSON: send 'Content-Type: application/json'.")
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdigit() and int(said) > limit:
        raise _too_large(limit)
    try:
        return await asyncio.wait_for(_joined(request, limit), READ_SECONDS)
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise Refused(408, f"The body did not come within {READ_SECONDS} seconds: send it again.") from error
    except ClientDisconnect as error:
        raise gone() from error


async def told(request: Request, job: Job) -> AsyncGenerator[Any]:
    """The job's events. The job is cancelled as soon as the client is gone, or nobody listens any more.

    Raises `Refused` where it was cancelled, and whatever the work raised.
    """
    watch = asyncio.create_task(_watch(request, job))
    try:
        async for event in job.events():
            yield event
        if job.cancelled:
            raise gone()
    except (GeneratorExit, asyncio.CancelledError):  # the listener stops
        job.cancel()
        raise
    finally:
        watch.cancel()


def gone() -> Refused:
    """What nobody reads."""
    return Refused(CLIENT_GONE, "The client has left.")


async def _joined(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> Refused:
    return Refused(413, f"The body has more than {limit} bytes: send fewer or smaller pictures.", code="body_too_large")


async def _watch(request: Request, job: Job) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    job.cancel()
