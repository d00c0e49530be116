import pytest

from foveate.apps.demo.middleware import LOCAL, is_allowed


@pytest.mark.parametrize(
    ("host", "expected"),
    [("192.168.1.5:80", True), ("[fe80::1]:80", True), ("me:80", True), ("evil.example", False)],
)
def test_an_open_port_answers_to_addresses_but_not_to_names(host, expected):
    assert is_allowed(host, {*LOCAL, "me"}, any_address=True) is expected


def test_a_broken_host_is_refused():
    assert not is_allowed("[::1", LOCAL, any_address=True)
