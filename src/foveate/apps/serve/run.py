"""Run a server from its first to its last request."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import socket
import warnings
from typing import TYPE_CHECKING

from foveate.apps.serve.settings import ServeSettings
from foveate.errors import InputError
from foveate.runtime.loaded import LoadedModel

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

REQUIRED = ("fastapi", "uvicorn", "prometheus_client")
QUEUE = 128  # connections that the system keeps until they are accepted


def require_serve() -> None:
    """Raise `InputError` if a package of the extra `foveate[serve]` is not installed."""
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} must be installed to serve: pip install 'foveate[serve]'.")


class Listener(socket.socket):
    """A listening socket whose queue does not depend on how many connections are accepted at once."""

    def listen(self, backlog: int = QUEUE, /) -> None:
        """Listen; asyncio passes the number of connections to accept at once, and means the queue too."""
        super().listen(max(backlog, QUEUE))


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens at the address; port 0 selects a free one. Raises `InputError` if that fails."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends at once (TCP_NODELAY) only where the protocol is named; else the parts of a response wait for ACKs.
    listener = Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # two servers can bind the same port, but only one can listen
    except (OSError, OverflowError, UnicodeError, TypeError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{host}:{port} cannot be listened on ({why}): give another --host or --port.") from error
    return listener


def serve(app: FastAPI, listener: socket.socket, *, grace: float) -> None:
    """Serve until SIGTERM or SIGINT; then refuse new requests and give open ones `grace` seconds to finish."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            timer = asyncio.get_running_loop().call_later(grace, app.state.worker.stop)
            try:
                await super().shutdown(sockets)
            finally:
                timer.cancel()

    # Filters are the whole process's, so no thread may change them later.
    warnings.filterwarnings("ignore", module=r"PIL\.")  # Pillow warns of odd metadata that changes no pixel
    # Requests end once the worker has stopped; uvicorn ends those that still send their body.
    Server(make_config(app, closing=math.ceil(grace) + 2)).run(sockets=[listener])


def make_config(app: FastAPI, *, closing: int, log_level: str = "info") -> uvicorn.Config:
    """uvicorn's configuration; open requests have `closing` seconds to finish."""
    import uvicorn

    from foveate.apps.serve.connections import AT_ONCE, GuardedProtocol

    return uvicorn.Config(
        app, http=GuardedProtocol, ws="none", log_level=log_level, access_log=False, timeout_graceful_shutdown=closing,
        backlog=AT_ONCE,
    )  # fmt: skip


def address(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def list_bound(listener: socket.socket, host: str) -> list[str]:
    """The host names of a socket: its address, and the name that the user typed."""
    return [listener.getsockname()[0], *filter(None, [host])]


def serve_chat(
    loaded: LoadedModel, settings: ServeSettings, listener: socket.socket, *, host: str = "", log_json: bool = False
) -> None:
    """Serve one model over OpenAI's protocol; `host` is the host name that the user typed."""
    from foveate.apps.serve.app import make_app
    from foveate.apps.serve.request_log import start_log

    start_log(as_json=log_json)
    print(f"{loaded.name} is served at {address(listener)}/v1\nPress Ctrl-C to stop.", flush=True)
    serve(make_app(loaded, settings, bound=list_bound(listener, host)), listener, grace=settings.grace)
