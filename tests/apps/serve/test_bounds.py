"""What is done before the model runs: its cost grows with the body, it has a limit, and it does not hold the model."""

import copy
import json
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest

from foveate.apps.demo.request import read_request
from foveate.apps.serve.chat import read_task
from foveate.apps.serve.chat_request import MAX_FIELDS, MAX_MESSAGES, MAX_PARTS, parse_request
from foveate.apps.serve.errors import MAX_MESSAGE, RequestError
from foveate.apps.serve.images import ImageSource
from foveate.apps.serve.settings import ServeSettings
from foveate.errors import FoveateError
from foveate.runtime.conversation import apply_template
from served import (
    body,
    post,
)  # fmt: skip

MIB = 2**20
SECONDS = 4.0  # of a core, for the largest body; each takes a tenth of that
IDLE = SimpleNamespace(cancelled=False, emit=lambda task: None)


def chat(messages, **more):
    return {"model": "bundled", "messages": messages, **more}


def user(text):
    return {"role": "user", "content": text}


def image(url):
    return {"type": "image_url", "image_url": {"url": url}}


def fields(n):
    return {f"field{i}": 1 for i in range(n)}


LONG = "a" * (19 * MIB)
SHAPES = {  # made when their test runs: together they are a gigabyte
    "messages": lambda: chat([user("a")] * 65_000),
    "messages without an end of words": lambda: chat([user("a" * 300)] * 60_000),
    "messages of one part": lambda: chat([user([{"type": "text", "text": "a"}])] * 40_000),
    "system turns": lambda: chat([{"role": "system", "content": "a"}] * 65_000),
    "odd messages": lambda: chat([None] * 190_000),
    "parts": lambda: chat([user([{"type": "text", "text": "a"}] * 90_000)]),
    "parts over messages": lambda: chat([user([{"type": "text", "text": ""}] * 80)] * 1000),
    "images": lambda: chat([user([image("data:image/png;base64,AAAA")] * 60_000)]),
    "a long text": lambda: chat([user(LONG)]),
    "words": lambda: chat([user("word " * 3_900_000)]),
    "a text without words": lambda: chat([user("\n" * (19 * MIB // 2))]),
    "placeholders": lambda: chat([user("<image>" * 2_800_000)]),
    "a model's name": lambda: {**chat([user("a")]), "model": LONG},
    "a role": lambda: chat([{"role": LONG, "content": "a"}]),
    "a stop string": lambda: chat([user("a")], stop=LONG),
    "stop strings": lambda: chat([user("a")], stop=["a"] * 190_000),
    "wrong stop strings": lambda: chat([user("a")], stop=[1] * 190_000),
    "unknown fields": lambda: {**chat([user("a")]), **fields(190_000)},
    "unknown fields of a message": lambda: chat([{**user("a"), **fields(190_000)}]),
    "unknown fields of an image": lambda: chat(
        [user([{"type": "image_url", "image_url": {"url": "", **fields(190_000)}}])]
    ),
    "the name of a field": lambda: {**chat([user("a")]), LONG: 1},
    "metadata": lambda: chat([user("a")], metadata=fields(190_000)),
    "a response format": lambda: chat([user("a")], response_format=fields(190_000)),
    "modalities": lambda: chat([user("a")], modalities=["x"] * 190_000),
    "tools": lambda: chat([user("a")], tools=[{"type": "function"}] * 190_000),
    "a data URL": lambda: chat([user([image("data:image/png;base64," + LONG)])]),
    "types of a data URL": lambda: chat([user([image("data:" + ";a=b" * 4_000_000)])]),
    "an address": lambda: chat([user([image("http://" + "a@" * 9_000_000)])]),
    "nesting": lambda: b'{"model":' + b"[" * (19 * MIB),
    "nested objects": lambda: b'{"a":' * 3_900_000,
    "closed nesting": lambda: b"[" * 9_000_000 + b"]" * 9_000_000,
    "an integer": lambda: b'{"model":' + b"1" * (19 * MIB) + b"}",
    "digits behind a point": lambda: b'{"model":1.' + b"1" * (19 * MIB) + b"}",
    "digits before a point": lambda: b'{"model":1' + b"0" * (19 * MIB) + b".5}",
    "an exponent": lambda: b'{"model":1e' + b"1" * (19 * MIB) + b"}",
    "escapes": lambda: b'{"model":"' + b"\\ud83d\\ude00" * 1_600_000 + b'"}',
    "an open string": lambda: b'{"model":"' + b'\\"' * 9_000_000,
    "blanks": lambda: b" " * (19 * MIB),
    "commas": lambda: b"[" + b"1," * 9_000_000,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_largest_bodies_are_read_in_moments(bundled, shape):
    """Both servers: time of this thread's core, so that no other process counts."""
    data = SHAPES[shape]()
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    assert len(data) <= 20 * MIB
    tokenizer, source = copy.deepcopy(bundled.processor.tokenizer), ImageSource(10**6, 20 * MIB)
    readers = (
        lambda: read_task(data, ServeSettings(), bundled, tokenizer, IDLE),
        lambda: read_request(data, methods=["foveate"], source=source),
    )
    for read in readers:
        start = time.thread_time()
        with suppress(RequestError, FoveateError):
            read()
        assert time.thread_time() - start < SECONDS


@pytest.mark.parametrize("roles", [("user",), ("user", "assistant"), ("system", "user", "assistant")])
def test_a_template_takes_time_that_grows_with_the_conversation(bundled, roles):
    def cost(count):
        turns = [
            {"role": roles[n % len(roles)], "content": [{"type": "text", "text": "what color"}]} for n in range(count)
        ]
        times = []
        for _ in range(3):
            start = time.thread_time()
            apply_template(bundled, turns)
            times.append(time.thread_time() - start)
        return min(times)

    assert cost(16_000) < 40 * cost(1000)  # squared it would be 256 times as much


def test_counts_are_limited():
    def refused(request):
        with pytest.raises(RequestError) as error:
            parse_request(json.dumps(request).encode())
        return error.value.status, error.value.param, error.value.message

    part = {"type": "text", "text": "a"}
    assert parse_request(json.dumps(chat([user("a")] * MAX_MESSAGES)).encode())
    assert refused(chat([user("a")] * (MAX_MESSAGES + 1)))[:2] == (400, "messages")
    assert parse_request(json.dumps(chat([user([part] * (MAX_PARTS // 2))] * 2)).encode())
    assert refused(chat([user([part] * (MAX_PARTS + 1))]))[1] == "messages.0.content"
    assert refused(chat([user([part] * (MAX_PARTS // 2)), user([part] * (MAX_PARTS // 2 + 1))]))[1] == "messages"
    assert f"{MAX_FIELDS} fields" in refused({**chat([user("a")]), **fields(MAX_FIELDS)})[2]


@pytest.mark.parametrize("name", ["model", "param"])
def test_a_refusal_is_short(server, name):
    """What a request names is not sent back at its full length."""
    request = body("m" * MIB, "a") if name == "model" else body("bundled", "a", **{"f" * MIB: 1})
    response = post(server.url, request)
    assert response.status_code == (404 if name == "model" else 400)
    assert response.json()["error"]["message"].endswith(".")
    assert len(response.content) < 4 * MAX_MESSAGE
