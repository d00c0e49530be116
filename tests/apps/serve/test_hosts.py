"""Names of the host and origins of pages, for the server and the demo."""

import socket

import pytest

from demo_client import make_body, running_demo
from foveate.apps import cli
from foveate.apps.serve.app import make_app
from foveate.apps.serve.hosts import HostCheck, parse_allowed_host, parse_host
from foveate.apps.serve.settings import ServeSettings
from foveate.errors import InputError
from served import body, get, post, refusal, running_app

OWN = (
    "localhost", "LocalHost", "localhost:80", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000", "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]:1",
)  # fmt: skip
FOREIGN = (
    "", " ", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "evil.localhost", "10.0.0.1",
    "x@127.0.0.1", "user:pass@localhost", "127.0.0.1@evil.example", "@localhost", "localhost@",
    "localhost,evil.example",
    "evil.example, localhost", "localhost localhost", "localhost;a", "localhost/", "localhost/a", "localhost?a",
    "localhost#a", "http://localhost", "//localhost", "localhost:", "localhost:0", "localhost:65536", "localhost:99999",
    "localhost:80:80", "localhost:8a", "localhost:-1", "localhost:+80", "localhost: 80", "localhost.", ".localhost",
    "local_host", "localhost\\", "[localhost]", "::1", "[::1", "::1]", "[::1]a", "[::1]80", "[::1%25lo]", "[::1%lo]",
    "[::ffff:127.0.0.1]", "[127.0.0.1]", "127.1", "127.0.0.01", "127.0.0.1.", "2130706433", "0x7f000001", "0177.0.0.1",
    "127.0.0.2", "0.0.0.0", "[::]", "\u00e9", "xn--", "loc\u00e4lhost", "*", "%6cocalhost", "a" * 300,
)  # fmt: skip


def check(host, *, bound=("127.0.0.1",), allowed=(), origins=()):
    """The status of the refusal for a Host header, 200 without one."""
    headers = [(b"host", host.encode("latin-1"))] if host is not None else []
    headers += [(b"origin", origin.encode("latin-1")) for origin in origins]
    refused = HostCheck(None, bound, allowed, None).check(headers)
    return 200 if refused is None else refused.status


@pytest.mark.parametrize("host", OWN)
def test_names_of_this_machine(host):
    assert check(host) == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_anything_else(host):
    assert check(host) == 400


def test_one_name_and_no_more():
    assert check(None) == 400
    check_two = HostCheck(None, ("127.0.0.1",), (), None).check([(b"host", b"localhost")] * 2)
    assert check_two.status == 400


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("192.168.1.5:80", 200), ("[fe80::1]:80", 200), ("[::ffff:10.0.0.1]", 200), (socket.gethostname(), 200),
        ("evil.example", 400), ("x@192.168.1.5", 400), ("192.168.1.5,10.0.0.1", 400), ("192.168.1", 400),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bound", ["0.0.0.0", "::"])
def test_an_open_port_answers_to_addresses_but_not_to_names(host, status, bound):
    assert check(host, bound=(bound,)) == status


@pytest.mark.parametrize("bound", ["0.0.0.0", "::"])
def test_the_refusal_names_addresses_that_work(bound):
    refused = HostCheck(None, (bound,), (), None).check([(b"host", b"evil.example")])
    assert "use localhost or an address of the machine, or start it with --allowed-host" in refused.message


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("models.example.com", 200), ("MODELS.example.com:443", 200), ("[2001:db8::1]", 200), ("x_y", 200),
        ("example.com", 400), ("a.models.example.com", 400), ("models.example.com.evil", 400),
    ],
)  # fmt: skip
def test_names_of_a_proxy(host, status):
    assert check(host, allowed=("Models.Example.com", "2001:DB8:0::1", "x_y")) == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8000", 200), ("https://LOCALHOST:8000", 200), ("https://models.example.com", 200),
        ("https://models.example.com:8443", 200), ("http://localhost", 403), ("http://localhost:3000", 403),
        ("http://127.0.0.1:8000", 403), ("https://evil.example", 403), ("null", 403), ("", 403),
        ("localhost:8000", 403),
        ("http://localhost:8000@evil.example", 403), ("http://evil.example@localhost:8000", 403),
        ("file://localhost:8000", 403), ("http://localhost:8000/", 403), ("chrome-extension://localhost:8000", 403),
        ("http://localhost:8000 http://evil.example", 403), ("https://models.example.com.evil", 403),
    ],
)  # fmt: skip
def test_origins(origin, status):
    assert check("localhost:8000", allowed=("models.example.com",), origins=[origin]) == status


def test_every_origin_counts():
    assert check("localhost", origins=["http://localhost", "http://evil.example"]) == 403


def test_reading_a_host_header_takes_time_in_proportion_to_it():
    assert parse_host("a." * 30_000) is None
    assert parse_host("a-" * 30_000) is None
    assert parse_host("[" + ":" * 60_000) is None


@pytest.fixture(scope="module")
def servers(bundled):
    """The addresses of a server and of a demo with the same name of a proxy."""
    app = make_app(bundled, ServeSettings(allowed_hosts=("models.example.com",)))
    with running_app(app) as server, running_demo(bundled, allowed_hosts=("models.example.com",)) as demo:
        yield server, demo


@pytest.mark.parametrize("path", ["/health", "/metrics", "/v1/models", "/nothing"])
@pytest.mark.parametrize("host", ["evil.example", "x@127.0.0.1", "127.0.0.1,evil.example", "127.0.0.1:"])
def test_the_server_refuses_foreign_names(servers, path, host):
    error = refusal(get(f"{servers[0].url}{path}", headers={"Host": host}), 400)
    assert error["code"] == "wrong_host"
    assert "--allowed-host" in error["message"]


@pytest.mark.parametrize("host", ["x@127.0.0.1", "127.0.0.1,evil.example", "evil.example"])
@pytest.mark.parametrize("path", ["/", "/about", "/static/page.js"])
def test_the_page_refuses_the_same_names(servers, path, host):
    response = servers[1].get(path, headers={"Host": host})
    assert response.status_code == 400
    assert "content-security-policy" in response.headers


def test_both_answer_to_the_name_of_a_proxy(servers):
    server, demo = servers
    headers = {"Host": "models.example.com", "Origin": "https://models.example.com"}
    assert post(server.url, body("bundled", "how many?"), headers=headers).status_code == 200
    assert demo.post("/look", make_body(), headers=headers).status_code == 200


def test_both_refuse_pages_of_other_sites(servers):
    server, demo = servers
    headers = {"Origin": "https://evil.example"}
    assert refusal(post(server.url, body("bundled", "how many?"), headers=headers), 403)["code"] == "wrong_origin"
    assert refusal(get(f"{server.url}/v1/models", headers=headers), 403)["code"] == "wrong_origin"
    assert demo.post("/look", make_body(), headers=headers).status_code == 403
    own = {"Origin": server.url}
    assert post(server.url, body("bundled", "how many?"), headers=own).status_code == 200


def test_allowed_hosts():
    assert parse_allowed_host(" Models.example.com ") == "models.example.com"
    assert parse_allowed_host("2001:db8:0::1") == "2001:db8::1"
    assert parse_allowed_host("10.0.0.1") == "10.0.0.1"
    for text in ("", "*", "https://a", "a:80", "a/b", "x@a", "a,b", "[::1]", "a b", ".a", "a."):
        with pytest.raises(InputError, match="--allowed-host"):
            parse_allowed_host(text)


@pytest.mark.parametrize("command", [("serve",), ("demo",), ("serve", "--engine", "vllm", "--print")])
def test_the_option(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--port", "0", "--allowed-host", "https://a"])
    assert stop.value.code == 2
    assert "--allowed-host" in capsys.readouterr().err
