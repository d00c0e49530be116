"""`Guard`: who may speak to the page, and what its answers may load."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("localhost", "127.0.0.1", "::1")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Guard:
    """Refuses requests that name another host, as a page elsewhere does once its own name points here (DNS rebinding).

    `bound` are the address that is listened on, and the name that was given for it. Where that is every address of the
    machine (0.0.0.0 or ::), any address will do, since only names can be pointed elsewhere, and so will the machine's
    own name.
    """

    def __init__(self, app: ASGIApp, bound: Sequence[str]) -> None:
        self.app, self.bound = app, bound
        self.names = {*LOCAL, *map(str.lower, bound)}
        self.anywhere = not {"0.0.0.0", "::"}.isdisjoint(bound)
        if self.anywhere:
            self.names.add(socket.gethostname().lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        given = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        if not allowed(given, self.names, anywhere=self.anywhere):
            refused = JSONResponse({"error": f"This page is not at that address: open it as {self.bound[-1]}."}, 400)
            await refused(scope, receive, guarded)
            return
        await self.app(scope, receive, guarded)


def allowed(host: str, names: Collection[str], *, anywhere: bool) -> bool:
    """Whether a Host header names this server; with `anywhere` any literal address does."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return False
    if name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return anywhere
