"""Every refusal of a field is a sentence of ours: the library that checks bodies has another voice."""

import json

import pytest

from foveate.apps.serve.chat_request import CompletionRequest, parse_request
from foveate.apps.serve.errors import RequestError

VALUES = [
    True,
    1,
    0,
    -1,
    0.5,
    1.5,
    -(10**30),
    10**30,
    "",
    "x",
    "x" * 300,
    ["x"],
    [1],
    [["x"]] * 9,
    {"a": 1},
    {"type": "x"},
]
VALUES += [{str(n): "x" for n in range(99)}, float("inf"), float("nan"), ["x"] * 2000]
TURNS = [
    {}, "hi", {"role": "user"}, {"role": "robot", "content": "x"}, {"role": "user", "content": 1}, {"content": "x"},
    *({"role": "user", "content": [part]} for part in (
        {}, "x", {"type": "audio"}, {"type": 1}, {"type": "text"}, {"type": "text", "text": 1}, {"text": "x"},
        {"type": "text", "text": "x", "cache": 1}, {"type": "image_url"}, {"type": "image_url", "image_url": "data:a"},
        {"type": "image_url", "image_url": {"url": 1}}, {"type": "image_url", "image_url": {"url": "", "detail": "x"}},
        {"type": "video_url", "video_url": {}},
    )),
]  # fmt: skip


def refuse(**fields):
    """The refusal of a body with these fields, None if it is taken."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    try:
        parse_request(json.dumps(body).encode())
    except RequestError as error:
        return error
    return None


def check_words(error):
    for word in ("Input", "should", "valid", "Field required", "Extra", "pydantic", "see /openapi.json"):
        assert word not in error.message, error.message
    assert error.status == 400
    assert error.message.endswith(".")


@pytest.mark.parametrize("name", [*CompletionRequest.model_fields, "tools", "logit_bias", "typo"])
def test_refusals_of_a_field(name):
    refused = [error for value in VALUES if (error := refuse(**{name: value}))]
    assert len(refused) >= 4
    for error in refused:
        check_words(error)
        assert error.message.startswith(name)
        assert error.param.partition(".")[0] == name


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_refusals_of_a_turn(turn):
    error = refuse(messages=[turn])
    check_words(error)
    assert error.param.startswith("messages.0")


def test_a_body_without_fields():
    with pytest.raises(RequestError, match="model: it is needed, and it is not there") as refused:
        parse_request(b"{}")
    check_words(refused.value)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"presence_penalty": 0.5}, "presence_penalty: this server has no penalties: leave it out, or set it to 0."),
        ({"n": 2}, "n: this server gives one answer to a request: send the request again for another one."),
        ({"logprobs": True}, "logprobs: this server gives no log-probabilities: leave it out."),
        ({"top_logprobs": 3}, "top_logprobs: this server gives no log-probabilities: leave it out."),
        (
            {"response_format": {"type": "json_object"}},
            'response_format.type: this server writes plain text: leave it out, or set it to {"type": "text"}.',
        ),
        ({"tools": [{"type": "function"}]}, "tools: this server calls no tools: leave it out."),
        ({"temperature": 3}, "temperature: give a number of at most 2.0."),
        ({"temperature": "hot"}, "temperature: give a number."),
        ({"max_tokens": 0}, "max_tokens: give a number of at least 1."),
        ({"max_tokens": 1.5}, "max_tokens: give a whole number."),
        ({"stream": 1}, "stream: give true or false."),
        ({"positions": "none"}, "positions: give 'original' or 'compact'."),
        ({"messages": []}, "messages: it is needed, and it is not there."),
        ({"typo": 1}, "typo: it has no effect here, leave it out."),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages.0.content.0: its type 'input_audio' is none of 'text', 'image_url', 'video_url'.",
        ),
    ],
)
def test_sentences(fields, text):
    assert refuse(**fields).message == text
