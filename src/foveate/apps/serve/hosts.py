"""`HostCheck`: refuses requests that name another host, or that a page of another site sends."""

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from foveate.apps.serve.errors import RequestError
from foveate.errors import InputError

LOCAL = ("localhost", "127.0.0.1", "::1")
LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
NAME = rf"{LABEL}(?:\.{LABEL})*"
HOST = re.compile(rf"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>{NAME}))(?::(?P<port>[0-9]{{1,5}}))?", re.IGNORECASE)
ORIGIN = re.compile(r"https?://(?P<host>.*)", re.IGNORECASE)


class HostCheck:
    """Refuses requests whose Host header names another server (DNS rebinding), or whose Origin is another site.

    `bound` is the address that the socket listens on and the name that the user typed for it. If that is every address
    of the machine (0.0.0.0 or ::), any literal address and the machine's own name are accepted, since only names can be
    rebound. `allowed` are the names of a proxy. An Origin, which browsers send, is the Host itself or an allowed name.
    """

    def __init__(
        self,
        app: ASGIApp,
        bound: Sequence[str],
        allowed: Sequence[str],
        to_response: Callable[[RequestError], Response],
    ) -> None:
        self.app, self.to_response = app, to_response
        self.bound, self.allowed = bound, {_normalize(name) for name in allowed}
        self.any_address = not {"0.0.0.0", "::"}.isdisjoint(bound)
        machine = [socket.gethostname()] if self.any_address else []
        self.names = {*map(_normalize, (*LOCAL, *bound, *machine)), *self.allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        refusal = self.check(scope["headers"]) if scope["type"] == "http" else None
        await (self.app if refusal is None else self.to_response(refusal))(scope, receive, send)

    def check(self, headers: Sequence[tuple[bytes, bytes]]) -> RequestError | None:
        """The refusal for the headers of a request; None if they name this server."""
        hosts, origins = (
            [text.decode("latin-1") for name, text in headers if name == key] for key in (b"host", b"origin")
        )
        name = parse_host(hosts[0]) if len(hosts) == 1 else None
        if name is None or not self._is_own(name):
            own = "localhost or an address of the machine" if self.any_address else self.bound[-1]
            message = f"This server is not at that address: use {own}, or start it with --allowed-host NAME."
            return RequestError(400, message, code="wrong_host")
        if any(not self._is_own_origin(origin, hosts[0]) for origin in origins):
            message = "A page of another site may not use this server: start it with --allowed-host NAME to allow it."
            return RequestError(403, message, code="wrong_origin")
        return None

    def _is_own(self, name: str) -> bool:
        return name in self.names or (self.any_address and _is_address(name))

    def _is_own_origin(self, origin: str, host: str) -> bool:
        match = ORIGIN.fullmatch(origin)
        return match is not None and (
            match["host"].lower() == host.lower() or parse_host(match["host"]) in self.allowed
        )


def parse_host(text: str) -> str | None:
    """The name or address in a Host header, in lower case; None where it is not exactly HOST or HOST:PORT."""
    match = HOST.fullmatch(text)
    if match is None or int(match["port"] or 1) not in range(1, 2**16):
        return None
    if match["address"] is None:
        return match["name"].lower()
    return _normalize(match["address"]) if ":" in match["address"] and _is_address(match["address"]) else None


def parse_allowed_host(text: str) -> str:
    """The name of `--allowed-host`. Raises `InputError` for anything but a name or an address."""
    name = text.strip()
    if not _is_address(name) and (parse_host(name) is None or ":" in name):
        raise InputError(
            f"--allowed-host {text!r} is not a host: give a name such as images.example.com, without a port."
        )
    return _normalize(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _normalize(name: str) -> str:
    """Lower case; an IPv6 address in its shortest form."""
    return str(ipaddress.ip_address(name)) if _is_address(name) else name.lower()
