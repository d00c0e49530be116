"""`fetch_file`: a file from an https address of the public internet, within limits."""

from __future__ import annotations

import http.client
import math
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from foveate.errors import InputError

Address = IPv4Address | IPv6Address

REDIRECTS = (301, 302, 303, 307, 308)
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last four bytes
RESERVED = "!#$%&'()*+,/:;=?@[]~"  # what a URL that is quoted already may hold
CHUNK = 2**16


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet: none of this machine, its network or its link."""
    inner: Address | None = None
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in NAT64:
            inner = IPv4Address(address.packed[-4:])
    if inner is not None:
        return is_public(inner)
    return address.is_global and not address.is_multicast


@dataclass(frozen=True)
class FetchLimits:
    """What a fetch may take.

    Args:
        size: Bytes of the file.
        seconds: For connections, redirects and the file together; looking up a name has the system's own limit.
        redirects: So many at most.
        may_connect: Whether an address may be connected to.
    """

    size: int = 64 * 2**20
    seconds: float = 30.0
    redirects: int = 5
    may_connect: Callable[[Address], bool] = is_public


LIMITS = FetchLimits()


def fetch_file(url: str, limits: FetchLimits = LIMITS) -> bytes:
    """The file behind an https address, through no proxy. Redirects to other https addresses are followed.

    Raises:
        InputError: The address is not https, is not public (nor may a redirect be), or the file is too large, too slow
            or not there.
    """
    end, target = time.monotonic() + limits.seconds, url
    try:
        for _ in range(limits.redirects + 1):
            data, target = _fetch_once(target, url, limits, end)
            if data is not None:
                return data
    except TimeoutError as error:
        raise _refuse(url, f"it takes more than {limits.seconds:g} seconds") from error
    except ssl.SSLCertVerificationError as error:
        raise _refuse(url, f"its certificate is not trusted: {error.verify_message}") from error
    except socket.gaierror as error:
        raise _refuse(url, f"its host is unknown: {error.strerror}") from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise _refuse(url, str(error) or type(error).__name__) from error
    raise _refuse(url, f"it is redirected more than {limits.redirects} times")


def _fetch_once(target: str, url: str, limits: FetchLimits, end: float) -> tuple[bytes | None, str]:
    """The file, or None and where it is."""
    parts = _split(target, url)
    with _request(parts, url, limits, end) as response:
        if response.status in REDIRECTS and response.headers["Location"]:
            return None, urljoin(target, response.headers["Location"])
        if response.status != http.client.OK:
            raise _refuse(url, f"the server answers {response.status} {response.reason}".rstrip())
        return _read(response, url, limits), target


def _split(target: str, url: str) -> SplitResult:
    """The parts of an address that may be fetched."""
    scheme = target.partition(":")[0].lower()
    if scheme != "https":
        leads = "" if target == url else f"it leads to {target}, and "
        raise _refuse(url, f"{leads}only https addresses are fetched")
    try:
        parts = urlsplit(target)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        raise _refuse(url, "this is no address of a file")
    if "@" in parts.netloc:
        raise _refuse(url, "an address with a user's name or password is not fetched")
    return parts


@contextmanager
def _request(parts: SplitResult, url: str, limits: FetchLimits, end: float) -> Iterator[http.client.HTTPResponse]:
    host, port = parts.hostname or "", parts.port or http.client.HTTPS_PORT
    connection = http.client.HTTPSConnection(host, port)
    connection.sock = _connect(host, port, url, limits, end)
    try:
        path = quote(parts.path or "/", RESERVED) + (f"?{quote(parts.query, RESERVED)}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "foveate", "Accept": "*/*"})
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


def _connect(host: str, port: int, url: str, limits: FetchLimits, end: float) -> ssl.SSLSocket:
    """A connection to an address that was checked: a second look-up of the name may return another one."""
    addresses = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in addresses:
        if not limits.may_connect(ip_address(address)):
            raise _refuse(url, f"{host} is at {address}, which is no address of the public internet")
    context = ssl.create_default_context()
    context.sslsocket_class = _TimedSocket
    problem: OSError = OSError(f"{host} has no address")
    for address in addresses:
        try:
            plain = socket.create_connection((address, port), timeout=_seconds_left(end))
        except OSError as error:
            problem = error
            continue
        with plain:  # taken over by the wrapped one
            secure = context.wrap_socket(plain, server_hostname=host)
        assert isinstance(secure, _TimedSocket)
        secure.end = end
        return secure
    raise problem


class _TimedSocket(ssl.SSLSocket):
    """Waits for each piece until one moment, so that many slow pieces are one slow file."""

    end = math.inf

    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(_seconds_left(self.end))
        return super().recv_into(*arguments)


def _seconds_left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _read(response: http.client.HTTPResponse, url: str, limits: FetchLimits) -> bytes:
    too_large = f"it has more than {limits.size} bytes"
    if (response.length or 0) > limits.size:
        raise _refuse(url, too_large)
    data = bytearray()
    while piece := response.read(CHUNK):
        data += piece
        if len(data) > limits.size:
            raise _refuse(url, too_large)
    if response.length:
        raise _refuse(url, "it is cut short")
    return bytes(data)


def _refuse(url: str, reason: str) -> InputError:
    return InputError(f"{url} cannot be fetched ({reason}): download the file, and name that.")
