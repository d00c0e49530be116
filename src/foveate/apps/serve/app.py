"""The server's application: chat completions, models, health and metrics."""

import asyncio
import copy
import hmac
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool

from foveate.apps.serve.chat import ChatTask, collect_answer, read_images, read_task, run_task, stream_answer
from foveate.apps.serve.chat_request import CompletionRequest
from foveate.apps.serve.chat_response import (
    ChatCompletion,
    HealthStatus,
    ModelCard,
    ModelList,
    ResponseWriter,
    server_sent_event,
)
from foveate.apps.serve.description import ANSWER, BODY, describe_api, refusals
from foveate.apps.serve.errors import RequestError, to_request_error
from foveate.apps.serve.events import ChatEvent
from foveate.apps.serve.hosts import HostCheck
from foveate.apps.serve.images import ImageSource
from foveate.apps.serve.metrics import ServeMetrics
from foveate.apps.serve.request_log import RequestRecord
from foveate.apps.serve.settings import ServeSettings
from foveate.apps.serve.transport import (
    CLIENT_CLOSED,
    RequestLimiter,
    add_error_handlers,
    prepare,
    read_json,
    refuse,
    stream_events,
)
from foveate.apps.serve.worker import ModelJob, ModelWorker, WorkerStopped
from foveate.runtime.image_cache import ImageCache
from foveate.runtime.loaded import LoadedModel


def make_app(loaded: LoadedModel, settings: ServeSettings, *, bound: Sequence[str] = ("127.0.0.1",)) -> FastAPI:
    """The application that serves one model; `bound` are the host names of the socket."""
    server = ChatServer(loaded, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for worker in (server.worker, server.reader):
            await run_in_threadpool(worker.close)

    app = FastAPI(title="foveate", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.worker, app.state.reader = server.worker, server.reader
    app.add_middleware(HostCheck, bound=bound, allowed=settings.allowed_hosts, to_response=_to_response)
    add_error_handlers(app, _to_response)
    _add_routes(app, server)
    server.api = describe_api(app, loaded.name, has_key=settings.api_key is not None)
    return app


class ChatServer:
    """The handlers of the routes, with the worker, metrics and limits that they share."""

    def __init__(self, loaded: LoadedModel, settings: ServeSettings) -> None:
        self.loaded, self.settings = loaded, settings
        self.worker = ModelWorker(settings.limits.waiting)
        self.cache = ImageCache(loaded, settings.limits.cache)
        self.metrics = ServeMetrics(self.worker, self.cache)
        self.limiter = RequestLimiter(2 * (settings.limits.waiting + 1))
        self.reader = ModelWorker(self.limiter.limit, "foveate-reader")
        self.api: dict[str, Any] = {}  # the OpenAPI description
        self.tokenizer = copy.deepcopy(loaded.processor.tokenizer)  # a tokenizer is for one thread

    async def health(self) -> Response:
        """200 while the worker's thread runs."""
        alive = self.worker.is_alive()
        status: HealthStatus = {"status": "ok" if alive else "dead", "model": self.loaded.name}
        return JSONResponse(status, 200 if alive else 503)

    async def read_metrics(self) -> Response:
        """Metrics for Prometheus."""
        return PlainTextResponse(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def read_description(self, request: Request) -> Response:
        """The OpenAPI description."""
        self._check_key(request)
        return JSONResponse(self.api)

    async def list_models(self, request: Request) -> Response:
        """A list of the one model."""
        self._check_key(request)
        models: ModelList = {"object": "list", "data": [self._model_card()]}
        return JSONResponse(models)

    async def describe_model(self, request: Request, name: str) -> Response:
        """The model, if it has that name."""
        self._check_key(request)
        if name != self.loaded.name:
            raise RequestError(404, f"There is no model {name!r} here.", code="model_not_found")
        return JSONResponse(self._model_card())

    async def complete_chat(self, request: Request) -> Response:
        """Answer a chat completion, or refuse it."""
        record = RequestRecord(self.metrics)
        try:
            self._check_key(request)
            with self.limiter.admit(request):
                task = await self._read_task(request)
                job = self.worker.submit(partial(run_task, self.cache, task, record))
            options = task.request
            del task  # from now on only the job refers to its images
            return await self._respond(request, job, options, record)
        except asyncio.CancelledError:  # the grace period ended while the body was read
            refusal = to_request_error(WorkerStopped())
            record.finish(503, refusal)
            return _to_response(refusal)
        except Exception as error:
            refusal = refuse(error, "A chat completion failed.")
            record.finish(refusal.status, refusal)
            return _to_response(refusal)

    async def _read_task(self, request: Request) -> ChatTask:
        """Read and check the body on the reader's thread, and fetch the images that it names."""
        body = await read_json(request, self.settings.limits.body, self.limiter)
        read = partial(read_task, body, self.settings, self.loaded, self.tokenizer)
        del body
        task = await prepare(request, self.reader, read)
        source = ImageSource(self.settings.limits.pixels, self.settings.limits.body, self.settings.origins)
        fetched = await source.fetch(task.urls)
        return await prepare(request, self.reader, partial(read_images, task, source, fetched))

    async def _respond(
        self, request: Request, job: ModelJob[ChatEvent], options: CompletionRequest, record: RequestRecord
    ) -> Response:
        """The response, once the prompt is ready."""
        events, writer = stream_events(request, job), ResponseWriter.new(self.loaded.name, record.id)
        await anext(events)  # PromptReady; what fails before it still gets its own status
        if options.stream:
            parts = stream_answer(events, writer, include_usage=options.stream_options.include_usage)
            body = _stream(parts, events, record)
            return StreamingResponse(body, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        async with aclosing(events):
            answer = await collect_answer(events, writer)
            record.finish(200)
        return JSONResponse(answer)

    def _check_key(self, request: Request) -> None:
        key, header = self.settings.api_key, request.headers.get("authorization", "")
        if key is not None and not hmac.compare_digest(header.encode(), f"Bearer {key}".encode()):
            message = "This server wants an API key: send it as 'Authorization: Bearer KEY'."
            raise RequestError(401, message, code="invalid_api_key")

    def _model_card(self) -> ModelCard:
        return {"id": self.loaded.name, "object": "model", "created": 0, "owned_by": "foveate"}


async def _stream(
    parts: AsyncIterator[str], events: AsyncGenerator[ChatEvent], record: RequestRecord
) -> AsyncIterator[str]:
    """The parts; a failure is sent as the last one, since the status is already sent."""
    status, refusal = 200, None
    try:
        async for part in parts:
            yield part
    except Exception as error:
        refusal = refuse(error, "A chat completion failed after its response began.")
        status = refusal.status
        yield server_sent_event(refusal.body())
    except (GeneratorExit, asyncio.CancelledError):
        status = CLIENT_CLOSED
        raise
    finally:
        record.finish(status, refusal)
        await events.aclose()


def _to_response(error: RequestError) -> Response:
    return JSONResponse(error.body(), error.status, error.headers())


def _add_routes(app: FastAPI, server: ChatServer) -> None:
    health: dict[int | str, dict[str, Any]] = {503: {"model": HealthStatus, "description": "The server must restart."}}
    app.add_api_route("/health", server.health, response_model=HealthStatus, responses=health | refusals(400, 403))
    app.add_api_route("/health", server.health, methods=["HEAD"], include_in_schema=False)
    app.add_api_route("/metrics", server.read_metrics, response_class=PlainTextResponse, responses=refusals(400, 403))
    app.add_api_route("/openapi.json", server.read_description, include_in_schema=False)
    app.add_api_route("/v1/models", server.list_models, response_model=ModelList, responses=refusals(400, 401, 403))
    app.add_api_route(
        "/v1/models/{name:path}",
        server.describe_model,
        response_model=ModelCard,
        responses=refusals(400, 401, 403, 404),
    )
    app.add_api_route(
        "/v1/chat/completions", server.complete_chat, methods=["POST"], response_model=ChatCompletion,
        responses=ANSWER | refusals(400, 401, 403, 404, 408, 413, 415, 429, 500, 503), openapi_extra=BODY,
    )  # fmt: skip
