"""Files from https addresses: of a server on this machine, for whose address a test makes an exception."""

import itertools
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest
import trustme

from foveate.errors import InputError
from foveate.runtime.fetch import FetchLimits, fetch_file, is_public

LOCAL = FetchLimits(may_connect=lambda address: True)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("::ffff:93.184.215.14", True),
        ("64:ff9b::5db8:d70e", True),  # 93.184.215.14 by way of NAT64
        ("127.0.0.1", False),
        ("::1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),  # of a provider's network
        ("169.254.169.254", False),  # where clouds tell a machine its keys
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("224.0.0.1", False),
        ("ff02::1", False),
        ("255.255.255.255", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),  # 6to4 of 127.0.0.1
    ],
)
def test_addresses(address, expected):
    assert is_public(ip_address(address)) is expected


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority):
    """Answers a path by its name: its address over https, and the requests that it got."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            got.append(self.path)
            kind, _, rest = self.path[1:].partition("/")
            {"file": self.send, "hop": self.hop, "slow": self.drip, "late": self.drip_head}.get(kind, self.fail)(rest)

        def send(self, rest):
            size, *more = rest.split("/")
            self.send_response(200)
            if "open" not in more:
                self.send_header("Content-Length", str(int(size) + ("short" in more)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"x" * int(size))
            self.close_connection = True

        def hop(self, rest):
            self.send_response(302)
            self.send_header("Location", rest)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def drip(self, rest):
            self.send_response(200)
            self.end_headers()
            self.write_slowly(itertools.repeat(b"x"))

        def drip_head(self, rest):
            self.write_slowly(itertools.chain([b"HTTP/1.1 200 OK\r\nX: "], itertools.repeat(b"x")))

        def write_slowly(self, pieces):
            for piece in pieces:
                try:
                    self.wfile.write(piece)
                except OSError:
                    return
                time.sleep(0.05)

        def fail(self, rest):
            self.send_error(404)

        def log_message(self, *_):
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"https://localhost:{web.server_port}", got
    web.shutdown()
    web.server_close()


@pytest.fixture
def trusted(authority, monkeypatch, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))


@contextmanager
def refused(text):
    with pytest.raises(InputError) as refusal:
        yield
    assert text in str(refusal.value)
    assert str(refusal.value).endswith("): download the file, and name that.")


@pytest.mark.usefixtures("trusted")
def test_a_file(server):
    url, got = server
    assert fetch_file(f"{url}/file/10", LOCAL) == b"x" * 10
    assert fetch_file(f"{url}/file/100000/open", LOCAL) == b"x" * 100_000  # without a length
    assert fetch_file(f"{url}/file/3?a=b c&ü=%20#page=2".replace("3?", "3/?"), LOCAL) == b"xxx"
    assert got[-1] == "/file/3/?a=b%20c&%C3%BC=%20"


@pytest.mark.usefixtures("trusted")
def test_redirects(server):
    url, got = server
    assert fetch_file(f"{url}/hop/{url}/file/5", LOCAL) == b"x" * 5
    assert fetch_file(f"{url}/hop//file/5", LOCAL) == b"x" * 5
    before = len(got)
    for target in (url.replace("https", "http"), "file:///etc/hosts", "ftp://localhost/a"):
        with refused("only https addresses are fetched"):
            fetch_file(f"{url}/hop/{target}/file/5", LOCAL)
    assert len(got) == before + 3  # each of the redirects, and none of its targets
    with refused("it is redirected more than 5 times"):
        fetch_file(f"{url}/hop/" * 6 + f"{url}/file/5", LOCAL)


@pytest.mark.usefixtures("trusted")
def test_limits(server):
    url, _ = server
    small = FetchLimits(size=100, may_connect=LOCAL.may_connect)
    assert fetch_file(f"{url}/file/100", small) == b"x" * 100
    for more in ("", "/open"):
        with refused("it has more than 100 bytes"):
            fetch_file(f"{url}/file/101{more}", small)
    with refused("it is cut short"):
        fetch_file(f"{url}/file/10/short", LOCAL)
    with refused("the server answers 404"):
        fetch_file(f"{url}/none", LOCAL)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("kind", ["slow", "late"])
def test_many_pieces_share_one_limit_of_time(server, kind):
    """Each piece of the file, or of its head, comes in time; all of them never end."""
    begin = time.monotonic()
    with refused("it takes more than 1 seconds"):
        fetch_file(f"{server[0]}/{kind}/", FetchLimits(seconds=1, may_connect=LOCAL.may_connect))
    assert time.monotonic() - begin < 30


@pytest.mark.usefixtures("trusted")
def test_addresses_of_this_machine_are_refused_before_a_request(server):
    url, got = server
    before = len(got)
    for host in ("localhost", "127.0.0.1", "[::1]", "0.0.0.0", "2130706433"):
        with refused("no address of the public internet"):
            fetch_file(f"{url.replace('localhost', host)}/file/5")
    assert len(got) == before


@pytest.mark.usefixtures("trusted")
def test_a_redirect_to_this_machine_is_refused(server):
    """The first host is allowed here, as a public one is; the second is not."""
    url, got = server
    allowed = iter([True, False])
    limits = FetchLimits(may_connect=lambda address: next(allowed))
    with refused("no address of the public internet"):
        fetch_file(
            f"{url.replace('localhost', '127.0.0.1')}/hop/{url.replace('localhost', '127.0.0.1')}/file/5", limits
        )
    assert got[-1].startswith("/hop/")


def test_a_certificate_that_nobody_vouches_for(server, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with refused("its certificate is not trusted"):
        fetch_file(f"{server[0]}/file/5", LOCAL)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://example.com/a.png", "only https addresses are fetched"),
        ("ftp://example.com/a.png", "only https addresses are fetched"),
        ("https:///a.png", "this is no address of a file"),
        ("https://example.com:99999/a.png", "this is no address of a file"),
        ("https://[::1/a.png", "this is no address of a file"),
        ("https://me:secret@example.com/a.png", "a user's name or password"),
        ("https://no-such-host.invalid/a.png", "its host is unknown"),
        (f"https://{'a' * 80}.com/a.png", "label"),
    ],
)
def test_what_is_no_address(url, text):
    with refused(text):
        fetch_file(url)
