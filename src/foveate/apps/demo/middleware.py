"""`HostCheck`: refuses requests that name another host, and sets the security headers of every response."""

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


class HostCheck:
    """Refuses requests whose Host header names another server, which stops DNS rebinding.

    `bound` is the address that the socket listens on and the name that the user typed for it. If that is every address
    of the machine (0.0.0.0 or ::), any literal address and the machine's own name are accepted, since only names can be
    rebound.
    """

    def __init__(self, app: ASGIApp, bound: Sequence[str]) -> None:
        self.app, self.bound = app, bound
        self.names = {*LOCAL, *map(str.lower, bound)}
        self.any_address = not {"0.0.0.0", "::"}.isdisjoint(bound)
        if self.any_address:
            self.names.add(socket.gethostname().lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        if is_allowed(host, self.names, any_address=self.any_address):
            await self.app(scope, receive, send_with_headers)
            return
        refusal = JSONResponse({"error": f"This page is not at that address: open it as {self.bound[-1]}."}, 400)
        await refusal(scope, receive, send_with_headers)


def is_allowed(host: str, names: Collection[str], *, any_address: bool) -> bool:
    """Whether a Host header names this server; with `any_address` every literal address does."""
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
    return any_address
