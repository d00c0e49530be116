"""The application: OpenAI's chat completions, what there is to serve, how it is, and its figures."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool

from foveate.apps.serve import chat
from foveate.apps.serve.errors import Refused, refusal
from foveate.apps.serve.http import CLIENT_GONE, Door, read_json, tell_refusals, told
from foveate.apps.serve.metrics import Metrics
from foveate.apps.serve.protocol import Words, event
from foveate.apps.serve.settings import Settings
from foveate.apps.serve.worker import Job, Stopped, Worker
from foveate.runtime.load import LoadedModel

log = logging.getLogger("uvicorn.error")


def make_app(loaded: LoadedModel, settings: Settings) -> FastAPI:
    """The server's application for one model."""
    worker = Worker(settings.limits.waiting)
    metrics, door = Metrics(worker), Door(2 * (settings.limits.waiting + 1))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(worker.close)

    app = FastAPI(title="foveate", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.worker = worker

    tell_refusals(app, _response)

    @app.api_route("/health", methods=["GET", "HEAD"])
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
            with door:
                body = await read_json(request, settings.limits.body)
                asked = await run_in_threadpool(chat.read, body, settings, loaded)
                del body
                job = worker.submit(partial(chat.work, loaded, asked, metrics))
            streams, asks_usage = asked.request.stream, asked.request.stream_options.include_usage
            del asked  # its pictures are the job's alone
            words = Words.new(loaded.name)
            return await _answered(request, job, words, metrics, streams=streams, asks_usage=asks_usage)
        except asyncio.CancelledError:  # it still sent its body when the time to stop was over
            metrics.count(503)
            return _response(refusal(Stopped()))
        except Exception as error:
            refused = refusal(error)
            if refused.status == 500:
                log.exception("A chat completion failed.")
            metrics.count(refused.status)
            return _response(refused)

    return app


async def _answered(
    request: Request, job: Job, words: Words, metrics: Metrics, *, streams: bool, asks_usage: bool
) -> Response:
    """The response, once the work has begun to tell."""
    events = told(request, job)
    ready = await anext(events)
    if streams:
        parts = _streamed(chat.stream(ready, events, words, usage=asks_usage), events, metrics)
        return StreamingResponse(parts, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
    async with aclosing(events):
        found = await chat.whole(ready, events, words)
        metrics.count(200)
    return JSONResponse(found)


async def _streamed(parts: AsyncIterator[str], events: AsyncGenerator[Any], metrics: Metrics) -> AsyncIterator[str]:
    """The parts; what breaks on the way is told as the last one, since the status is sent already."""
    status = 200
    try:
        async for part in parts:
            yield part
    except Exception as error:
        refused = refusal(error)
        status = refused.status
        if status == 500:
            log.exception("A chat completion failed on the way.")
        yield event(refused.body())
    except (GeneratorExit, asyncio.CancelledError):
        status = CLIENT_GONE
        raise
    finally:
        metrics.count(status)
        await events.aclose()


def _check_key(request: Request, key: str | None) -> None:
    if key is None:
        return
    given = request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
        raise Refused(
            401, "This server wants an API key: send it as 'Authorization: Bearer KEY'.", code="invalid_api_key"
        )


def _card(loaded: LoadedModel) -> dict[str, Any]:
    return {"id": loaded.name, "object": "model", "created": 0, "owned_by": "foveate"}


def _response(refused: Refused) -> Response:
    return JSONResponse(refused.body(), refused.status, refused.headers())
