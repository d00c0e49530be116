"""The page of `foveate demo`: its application, with one picture and one question at a time, and how it is served."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import webbrowser
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import StaticFiles

from foveate.apps.demo import wish
from foveate.apps.demo.desk import Desk
from foveate.apps.demo.guard import Guard
from foveate.apps.demo.scenes import Exhibit, exhibits
from foveate.apps.serve.errors import Refused, refusal
from foveate.apps.serve.http import Door, read_json, tell_refusals, told
from foveate.apps.serve.pictures import Source
from foveate.apps.serve.run import address, serve
from foveate.apps.serve.settings import MEGAPIXEL, Limits
from foveate.apps.serve.worker import Stopped, Worker
from foveate.method import MethodInfo, methods
from foveate.models import family_of
from foveate.runtime.conversation import make_inputs
from foveate.runtime.load import LoadedModel
from foveate.world.drawing import draw_scene

STATIC = Path(__file__).parent / "static"
LIMITS = Limits(waiting=16, pixels=25 * MEGAPIXEL)
KEEP, METHOD = 0.1, "foveate"  # until somebody chooses
GRACE = 2.0  # seconds
WARM_TOKENS = 2
log = logging.getLogger("uvicorn.error")


def make_page(loaded: LoadedModel, *, seed: int = 0, bound: Sequence[str] = ("127.0.0.1",)) -> FastAPI:
    """The page's application for one model; `seed` draws the gallery, `bound` are the names that it listens at.

    Raises `ModelError` or `InputError` where the model cannot be asked about a picture.
    """
    gallery = exhibits(seed)
    make_inputs(loaded, [draw_scene(gallery[0].scene)], [gallery[0].questions[0].text])
    desk, worker, door = Desk(loaded), Worker(LIMITS.waiting), Door(2 * (LIMITS.waiting + 1))
    offered = methods_for(loaded)
    read = partial(wish.read, names=[row.name for row in offered], source=Source(LIMITS.pixels, LIMITS.body))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(_warm(worker, desk, gallery[0]))
        yield
        warming.cancel()
        await run_in_threadpool(worker.close)

    app = FastAPI(title="foveate demo", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.worker, app.state.desk = worker, desk
    app.add_middleware(Guard, bound=bound)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    tell_refusals(app, _response)

    @app.get("/")
    async def index() -> Response:
        return FileResponse(STATIC / "index.html")

    @app.get("/about")
    async def about() -> Response:
        listed = [{"name": row.name, "paper": row.paper, "summary": row.summary} for row in offered]
        limits = {"bytes": LIMITS.body, "pixels": LIMITS.pixels}
        return JSONResponse({"model": loaded.name, "methods": listed, "keep": KEEP, "method": METHOD, "limits": limits})

    @app.get("/scenes")
    async def scenes() -> Response:
        return JSONResponse([_card(number, exhibit) for number, exhibit in enumerate(gallery)])

    @app.get("/scenes/{number:int}.png")
    async def scene(number: int) -> Response:
        if not 0 <= number < len(gallery):
            raise Refused(404, f"There are scenes 0 to {len(gallery) - 1}.")
        return Response(gallery[number].png(), media_type="image/png")

    @app.post("/look")
    async def look(request: Request) -> Response:
        return await _answered(request, door, worker, read, desk.look, stream=False)

    @app.post("/ask")
    async def ask(request: Request) -> Response:
        return await _answered(request, door, worker, read, desk.ask, stream=True)

    return app


def methods_for(loaded: LoadedModel) -> list[MethodInfo]:
    """The methods that can choose from this model's tokens before its decoder."""
    given = family_of(loaded.model).extras(loaded.model.config)
    return [row for row in methods() if row.prunes == "input" and given.issuperset(row.needs)]


def serve_page(loaded: LoadedModel, listens: socket.socket, *, host: str = "", open_browser: bool = False) -> None:
    """Serve the page on a socket until it is stopped, and open it in a browser if that is wanted.

    `host` is what the socket was bound to, as it was typed. Raises as `make_page` does.
    """
    app, url = make_page(loaded, bound=(listens.getsockname()[0], *filter(None, [host]))), address(listens)
    print(f"{loaded.name} can be asked at {url}; Ctrl-C stops.", flush=True)
    if open_browser:
        threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
    serve(app, listens, grace=GRACE)


async def _warm(worker: Worker, desk: Desk, exhibit: Exhibit) -> None:
    """The first pass is slower than all that follow it, so it is made before anybody asks."""
    asked = wish.asked(exhibit.png(), exhibit.questions[0].text, KEEP, METHOD)
    try:
        async for _ in worker.submit(partial(desk.ask, asked, new=WARM_TOKENS)).events():
            pass
    except Stopped:
        pass
    except Exception:
        log.exception("The model failed on the first scene of the gallery.")


async def _answered(request: Request, door: Door, worker: Worker, read: Any, work: Any, *, stream: bool) -> Response:
    """The first event of the work, or all of them as lines of JSON."""
    try:
        with door:
            asked = await run_in_threadpool(read, await read_json(request, LIMITS.body))
            events = told(request, worker.submit(partial(work, asked)))
        del asked  # its picture is the job's alone
        first = await anext(events)
        if stream:
            return StreamingResponse(_lines(first, events), media_type="application/x-ndjson")
        await events.aclose()
        return JSONResponse(first)
    except asyncio.CancelledError:  # it still sent its body when the time to stop was over
        return _response(refusal(Stopped()))
    except Exception as error:
        return _response(_refusal(error))


async def _lines(first: Any, events: AsyncGenerator[Any]) -> AsyncIterator[str]:
    """Events as lines of JSON; what breaks on the way is told as the last one, since the status is sent already."""
    try:
        yield _line(first)
        async for event in events:
            yield _line(event)
    except Exception as error:
        yield _line({"type": "error", "error": _refusal(error).message})
    finally:
        await events.aclose()


def _refusal(error: Exception) -> Refused:
    told = refusal(error)
    if told.status == 500:
        log.exception("The page's request failed.")
    return told


def _line(event: Any) -> str:
    return json.dumps(event) + "\n"


def _response(refused: Refused) -> Response:
    return JSONResponse({"error": refused.message}, refused.status, headers=refused.headers())


def _card(number: int, exhibit: Exhibit) -> dict[str, Any]:
    asked = [{"text": question.text, "answer": question.answer} for question in exhibit.questions]
    return {"title": exhibit.title, "picture": f"/scenes/{number}.png", "questions": asked}
