"""`run`: the server from its first to its last request."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import socket
from typing import TYPE_CHECKING

from foveate.apps.serve.settings import Settings
from foveate.errors import InputError
from foveate.runtime.load import LoadedModel

if TYPE_CHECKING:
    from fastapi import FastAPI

NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def require_serve() -> None:
    """Raise `InputError` where what the server stands on is not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} must be installed to serve: pip install 'foveate[serve]'.")


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any that is free. Raises `InputError` if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen()  # two servers could bind the same port, but not both listen
    except (OSError, OverflowError, UnicodeError, TypeError) as error:
        found.close()
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{host}:{port} cannot be listened on ({why}): give another --host or --port.") from error
    return found


def serve(app: FastAPI, listens: socket.socket, *, grace: float) -> None:
    """Answer until SIGTERM or SIGINT; open requests then get `grace` seconds to end, and new ones are refused."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            timer = asyncio.get_running_loop().call_later(grace, app.state.worker.stop)
            try:
                await super().shutdown(sockets)
            finally:
                timer.cancel()

    # Requests end by themselves once the worker has stopped; uvicorn ends those that still send.
    config = uvicorn.Config(app, log_level="info", access_log=False, timeout_graceful_shutdown=math.ceil(grace) + 2)
    Server(config).run(sockets=[listens])


def address(listens: socket.socket) -> str:
    """Where a browser or a client finds it."""
    host, port = listens.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve_chat(loaded: LoadedModel, settings: Settings, listens: socket.socket) -> None:
    """The OpenAI protocol."""
    from foveate.apps.serve.app import make_app

    print(f"{loaded.name} is served at {address(listens)}/v1; Ctrl-C stops.", flush=True)
    serve(make_app(loaded, settings), listens, grace=settings.grace)
