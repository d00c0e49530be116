"""The application of `foveate demo`: its page, its gallery, and questions about one image or clip at a time."""

import asyncio
import logging
import socket
import threading
import webbrowser
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import StaticFiles

from foveate.apps.demo.events import DemoEvent, DemoFailure, to_json
from foveate.apps.demo.gallery import GalleryScene, make_gallery
from foveate.apps.demo.middleware import SecurityHeaders
from foveate.apps.demo.request import DemoRequest, make_request, read_clip_request, read_look, read_request
from foveate.apps.demo.session import DemoSession
from foveate.apps.demo.shown import LIMITS
from foveate.apps.serve.errors import RequestError, to_request_error
from foveate.apps.serve.hosts import HostCheck
from foveate.apps.serve.images import ImageSource
from foveate.apps.serve.run import address, list_bound, serve
from foveate.apps.serve.transport import RequestLimiter, add_error_handlers, prepare, read_json, refuse, stream_events
from foveate.apps.serve.worker import ModelJob, ModelWorker, WorkerStopped
from foveate.errors import InputError, ModelError
from foveate.models import family_of
from foveate.pipeline.encode import list_methods
from foveate.pipeline.follow import find_policy
from foveate.pipeline.parts import check_encoder
from foveate.pipeline.settings import check_settings
from foveate.policy import Policy
from foveate.policy.shipped import find_shipped
from foveate.runtime.conversation import make_inputs
from foveate.runtime.loaded import LoadedModel
from foveate.world.drawing import draw_scene

STATIC = Path(__file__).parent / "static"
KEEP, METHOD = 0.1, "foveate"  # the page's defaults
GRACE = 2.0  # seconds
WARMUP_TOKENS = 2
FAILED = "A request of the demo failed."
Work = Callable[[DemoRequest, ModelJob[DemoEvent]], None]
Parse = Callable[..., DemoRequest]  # (body, source=...)
log = logging.getLogger("uvicorn.error")


def make_demo_app(
    loaded: LoadedModel, *, policy: Policy | None = None, seed: int = 0, bound: Sequence[str] = ("127.0.0.1",),
    allowed_hosts: Sequence[str] = (),
) -> FastAPI:  # fmt: skip
    """The application for one model.

    `policy` is the slider's notch "auto"; by default that which comes with the model, if one does. `seed` draws the
    gallery, `bound` are the host names of the socket, `allowed_hosts` those of a proxy.

    Raises `ModelError` or `InputError` if the model cannot be asked about an image, or the policy is not for it.
    """
    server = DemoServer(loaded, make_gallery(seed), policy)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warmup = asyncio.create_task(server.warm_up())
        yield
        warmup.cancel()
        for worker in (server.worker, server.reader):
            await run_in_threadpool(worker.close)

    app = FastAPI(title="foveate demo", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.worker, app.state.reader, app.state.session = server.worker, server.reader, server.session
    app.add_middleware(HostCheck, bound=bound, allowed=allowed_hosts, to_response=_to_response)
    app.add_middleware(SecurityHeaders)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    add_error_handlers(app, _to_response)
    app.add_api_route("/", server.page)
    app.add_api_route("/about", server.about)
    app.add_api_route("/scenes", server.list_scenes)
    app.add_api_route("/scenes/{number:int}.png", server.draw_scene)
    app.add_api_route("/frames", server.show_frames, methods=["POST"])
    app.add_api_route("/look", server.look, methods=["POST"])
    app.add_api_route("/ask", server.ask, methods=["POST"])
    return app


class DemoServer:
    """The handlers of the routes, with the session, worker and limits that they share."""

    def __init__(self, loaded: LoadedModel, gallery: Sequence[GalleryScene], policy: Policy | None) -> None:
        make_inputs(loaded, [draw_scene(gallery[0].scene)], [gallery[0].questions[0].text])
        self.loaded, self.gallery, self.methods = loaded, gallery, list_methods(loaded.model, family_of(loaded.model))
        self.names = [row.name for row in self.methods]
        policy, note = choose_policy(loaded, policy)
        self.auto = {"method": policy and policy.method, "note": note}
        self.has_tiles = can_leave_out(loaded)
        self.session, self.worker = DemoSession(loaded, policy), ModelWorker(LIMITS.waiting)
        self.limiter = RequestLimiter(2 * (LIMITS.waiting + 1))
        self.reader = ModelWorker(self.limiter.limit, "foveate-reader")

    async def page(self) -> Response:
        """The HTML page."""
        return FileResponse(STATIC / "index.html")

    async def about(self) -> Response:
        """The model, its methods, the defaults, the limits, what the notch "auto" is, and if tiles may be left out."""
        rows = [{"name": row.name, "paper": row.paper, "summary": row.summary} for row in self.methods]
        limits = {"bytes": LIMITS.body, "pixels": LIMITS.pixels}
        about = {"model": self.loaded.name, "methods": rows, "keep": KEEP, "method": METHOD, "limits": limits}
        return JSONResponse({**about, "auto": self.auto, "tiles": self.has_tiles})

    async def list_scenes(self) -> Response:
        """The gallery with its questions."""
        return JSONResponse([_scene_card(number, scene) for number, scene in enumerate(self.gallery)])

    async def draw_scene(self, number: int) -> Response:
        """One image of the gallery."""
        if not 0 <= number < len(self.gallery):
            raise RequestError(404, f"There are scenes 0 to {len(self.gallery) - 1}.")
        return Response(self.gallery[number].to_png(), media_type="image/png")

    async def show_frames(self, request: Request) -> Response:
        """The frames of a clip that are asked about, as one JSON object."""
        return await self._respond(request, self.session.show, read_clip_request, stream=False)

    async def look(self, request: Request) -> Response:
        """The kept tokens, as one JSON object."""
        read = partial(read_look, methods=self.names)
        return await self._respond(request, self.session.look, read, stream=False)

    async def ask(self, request: Request) -> Response:
        """The kept tokens and all answers, as lines of JSON."""
        read = partial(read_request, methods=self.names)
        return await self._respond(request, self.session.ask, read, stream=True)

    async def warm_up(self) -> None:
        """Run one question, since the model's first pass is slower than all others."""
        scene = self.gallery[0]
        request = make_request(scene.to_png(), scene.questions[0].text, KEEP, METHOD)
        try:
            async for _ in self.worker.submit(
                partial(self.session.ask, request, max_new_tokens=WARMUP_TOKENS)
            ).events():
                pass
        except WorkerStopped:
            pass
        except Exception:
            log.exception("The model failed on the first scene of the gallery.")

    async def _respond(self, request: Request, work: Work, parse: Parse, *, stream: bool) -> Response:
        """The first event of the work, or all of them as lines of JSON."""
        try:
            with self.limiter.admit(request):
                read = partial(_read, parse, await read_json(request, LIMITS.body, self.limiter))
                parsed = await prepare(request, self.reader, read)
                events = stream_events(request, self.worker.submit(partial(work, parsed)))
            del read, parsed  # from now on only the job refers to its image
            first = await anext(events)
            if stream:
                return StreamingResponse(_stream_lines(first, events), media_type="application/x-ndjson")
            await events.aclose()
            return Response(to_json(first), media_type="application/json")
        except asyncio.CancelledError:  # the grace period ended while the body was read
            return _to_response(to_request_error(WorkerStopped()))
        except Exception as error:
            return _to_response(refuse(error, FAILED))


def _read(parse: Parse, body: bytes, job: ModelJob[DemoRequest]) -> None:
    job.emit(parse(body, source=ImageSource(LIMITS.pixels, LIMITS.body)))


def serve_demo(
    loaded: LoadedModel, listener: socket.socket, *, policy: Policy | None = None, host: str = "",
    allowed_hosts: Sequence[str] = (), open_browser: bool = False,
) -> None:  # fmt: skip
    """Serve the page on a socket until it is stopped; `open_browser` opens it in a browser.

    `host` is the host name that the user typed, `allowed_hosts` are those of a proxy. Raises as `make_demo_app` does.
    """
    app = make_demo_app(loaded, policy=policy, bound=list_bound(listener, host), allowed_hosts=allowed_hosts)
    url = address(listener)
    print(f"{loaded.name} answers questions at {url}\nPress Ctrl-C to stop.", flush=True)
    if open_browser:
        threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
    serve(app, listener, grace=GRACE)


def choose_policy(loaded: LoadedModel, policy: Policy | None) -> tuple[Policy | None, str]:
    """What "auto" stands for, and a sentence: what it promises, or why there is none.

    Raises `InputError` if this policy is not for the model or the page.
    """
    try:
        chosen = policy or find_shipped(loaded.model)
    except InputError:
        return None, (
            "No auto: no policy comes with this model. Make one with foveate calibrate, and start foveate demo with "
            "--policy FILE."
        )
    find_policy(loaded.model, check_settings(chosen, chosen.method))
    promise = chosen.promise
    return chosen, (
        f"auto: at most {100 * promise.loss:.3g} % of the answers differ from the unpruned ones, with "
        f"{100 * promise.confidence:.3g} % confidence, on questions like those of the calibration."
    )


def can_leave_out(loaded: LoadedModel) -> bool:
    """Whether the model's images have tiles that need not be encoded."""
    try:
        check_encoder(family_of(loaded.model), check_settings(KEEP, METHOD, encode=0.5))
    except ModelError:
        return False
    return True


async def _stream_lines(first: DemoEvent, events: AsyncGenerator[DemoEvent]) -> AsyncIterator[str]:
    """Events as lines of JSON; a failure is sent as the last one, since the status is already sent."""
    try:
        yield to_json(first) + "\n"
        async for event in events:
            yield to_json(event) + "\n"
    except Exception as error:
        yield to_json(DemoFailure(refuse(error, FAILED).message)) + "\n"
    finally:
        await events.aclose()


def _to_response(error: RequestError) -> Response:
    return JSONResponse({"error": error.message}, error.status, headers=error.headers())


def _scene_card(number: int, scene: GalleryScene) -> dict[str, Any]:
    questions = [{"text": question.text, "answer": question.answer} for question in scene.questions]
    return {"title": scene.title, "image": f"/scenes/{number}.png", "questions": questions}
