"""The application: OpenAI's chat completions, what there is to serve, how it is, and its figures."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from foveate.load import Loaded
from foveate.serve import chat
from foveate.serve.errors import Refused, refusal
from foveate.serve.metrics import CLIENT_GONE, Metrics
from foveate.serve.protocol import Words, event
from foveate.serve.settings import Settings
from foveate.serve.worker import Job, Worker

READ_SECONDS = 60  # for a body to come in
log = logging.getLogger("uvicorn.error")


def make_app(loaded: Loaded, settings: Settings) -> FastAPI:
    """The server's application for one model."""
    worker = Worker(settings.limits.waiting)
    metrics = Metrics(worker)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(worker.close)

    app = FastAPI(title="foveate", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.worker = worker

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return _told(error)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return _told(Refused(error.status_code, f"{request.method} {request.url.path}: {error.detail}."))

    @app.get("/health")
    async def health() -> Response:
        alive = worker.alive()
        return JSONResponse({"status": "ok" if alive else "dead", "model": loaded.name}, 200 if alive else 503)

    @app.get("/metrics")
    async def figures() -> Response:
        return PlainTextResponse(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        _check_key(request, settings.api_key)
        return JSONResponse({"object": "list", "data": [_card(loaded)]})

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> Response:
        _check_key(request, settings.api_key)
        if name != loaded.name:
            raise Refused(404, f"There is no model {name!r} here.", code="model_not_found")
        return JSONResponse(_card(loaded))

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        try:
            _check_key(request, settings.api_key)
            _check_type(request)
            body = await _body(request, settings.limits.body)
            asked = await run_in_threadpool(chat.read, body, settings, loaded)
            del body
            job = worker.submit(partial(chat.work, loaded, asked, metrics))
            return await _answered(request, job, asked, Words.new(loaded.name), metrics)
        except Exception as error:
            told = refusal(error)
            if told.status == 500:
                log.exception("A chat completion failed.")
            metrics.count(told.status)
            return _told(told)

    return app


async def _answered(request: Request, job: Job, asked: chat.Chat, words: Words, metrics: Metrics) -> Response:
    """The response, once the work has begun to tell; the job is cancelled as soon as the client is gone."""
    watch = asyncio.create_task(_watch(request, job))
    events, streams = job.events(), False
    try:
        ready = await anext(events, None)
        if ready is None:  # cancelled before it began
            raise Refused(CLIENT_GONE, "The client has left.")
        if asked.request.stream:
            streams = True
            parts = _streamed(chat.stream(ready, events, words, asked), job, watch, metrics)
            return StreamingResponse(parts, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        found = await chat.whole(ready, events, words)
        metrics.count(CLIENT_GONE if job.cancelled else 200)
        return JSONResponse(found)
    finally:
        if not streams:
            watch.cancel()
            job.cancel()


async def _streamed(
    parts: AsyncIterator[str], job: Job, watch: asyncio.Task[None], metrics: Metrics
) -> AsyncIterator[str]:
    """The parts; what breaks on the way is told as the last one, since the status is sent already."""
    status = 200
    try:
        async for part in parts:
            yield part
    except Exception as error:
        log.exception("A chat completion failed on the way.")
        told = refusal(error)
        status = told.status
        yield event(told.body())
    finally:
        metrics.count(CLIENT_GONE if job.cancelled else status)
        watch.cancel()
        job.cancel()


async def _watch(request: Request, job: Job) -> None:
    """Cancel the job when the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    job.cancel()


async def _body(request: Request, limit: int) -> bytes:
    """The whole body. Raises `Refused` if it is too large, too slow or cut off."""
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdigit() and int(said) > limit:
        raise _too_large(limit)
    try:
        return await asyncio.wait_for(_joined(request, limit), READ_SECONDS)
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise Refused(408, f"The body did not come within {READ_SECONDS} seconds: send it again.") from error
    except ClientDisconnect as error:
        raise Refused(CLIENT_GONE, "The client has left.") from error


async def _joined(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> Refused:
    return Refused(413, f"The body has more than {limit} bytes: send fewer or smaller pictures.", code="body_too_large")


def _check_key(request: Request, key: str | None) -> None:
    if key is None:
        return
    given = request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
        raise Refused(
            401, "This server wants an API key: send it as 'Authorization: Bearer KEY'.", code="invalid_api_key"
        )


def _check_type(request: Request) -> None:
    """A page of another site can send anything but this type without asking the browser's user."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "The body's type is not JSON: send 'Content-Type: application/json'.")


def _card(loaded: Loaded) -> dict[str, Any]:
    return {"id": loaded.name, "object": "model", "created": 0, "owned_by": "foveate"}


def _told(refused: Refused) -> Response:
    return JSONResponse(refused.body(), refused.status, refused.headers())
