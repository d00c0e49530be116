from pathlib import Path

import pytest

from foveate.errors import InputError
from foveate.runtime.addresses import to_path


@pytest.mark.parametrize("text", ["http://127.0.0.1:1/a.png", "HTTPS://host/a", "s3://bucket/a", "file:///a.png"])
def test_an_address_is_named_as_it_was_written(text):
    with pytest.raises(InputError) as raised:
        to_path(text)
    assert str(raised.value).startswith(f"{text} is an address, and nothing is fetched")


@pytest.mark.parametrize("text", ["a.png", "/a//b.png", "C:/a.png", "a b://c", "http:", "://"])
def test_what_is_no_address(text):
    assert to_path(text) == Path(text)
