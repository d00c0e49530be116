import json

import pytest

from foveate.apps.serve.chat_request import parse_request
from foveate.apps.serve.errors import RequestError


def request(**more):
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}


def parsed(**more):
    return parse_request(json.dumps(request(**more)).encode())


def refusal(body):
    """The message that refuses a body (bytes, or what is written as JSON)."""
    with pytest.raises(RequestError) as refused:
        parse_request(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert refused.value.status == 400
    return refused.value.message


def test_turns_and_images():
    completion = parsed(
        messages=[
            {"role": "developer", "content": "be brief"},
            {
                "role": "user", "name": None,
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:a"}}, {"type": "text", "text": "what"},
                    {"type": "image_url", "image_url": {"url": "data:b", "detail": "low"}},
                ],
            },
            # An answer as the client sends it back.
            {"role": "assistant", "content": "a cat", "refusal": None, "tool_calls": None, "annotations": []},
            {"role": "user", "content": "and now"},
        ]
    )  # fmt: skip
    assert completion.turns() == [
        {"role": "system", "content": [{"type": "text", "text": "be brief"}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what"}, {"type": "image"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "a cat"}]},
        {"role": "user", "content": [{"type": "text", "text": "and now"}]},
    ]
    assert [(image.url, image.detail) for image in completion.images()] == [("data:a", "auto"), ("data:b", "low")]


def test_keep_is_a_number_of_tokens_or_a_share():
    assert [type(parsed(keep=keep).keep) for keep in (1, 1.0, 64, 0.25)] == [int, float, int, float]
    assert parsed(keep="auto").keep == "auto"
    for keep in ("0.1", "Auto", "mine.policy.json", "", True, [1], {"format": "foveate policy 1"}, 10**400, -(10**9)):
        says = 'a number of tokens (64), a share of them (0.1), or "auto" where the model has a policy.'
        assert refusal(request(keep=keep)) == f"keep: give {says}"


def test_fields_without_effect_are_allowed_at_neutral_values():
    completion = parsed(
        n=1, logprobs=False, frequency_penalty=0, presence_penalty=0.0, response_format={"type": "text"}, tools=[],
        logit_bias={}, user="me", metadata={"a": "b"}, store=False, stop=None, seed=None, top_logprobs=0,
        stream_options=None, service_tier="auto", modalities=["text"],
    )  # fmt: skip
    assert completion.stops() == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2), ("logprobs", True), ("frequency_penalty", 0.5), ("response_format", {"type": "json_object"}),
        ("tools", [{"type": "function"}]), ("logit_bias", {"5": 1}), ("temperature", -1), ("temperature", 3),
        ("top_p", 0), ("max_tokens", 0), ("max_completion_tokens", -1), ("positions", "none"), ("typo", 1),
        ("mm_processor_kwargs", {"a": 1}), ("stream_options", {"typo": True}), ("messages", []), ("seed", 2**63),
        ("messages", [{"role": "tool", "content": "x"}]), ("messages", [{"role": "user"}]),
        ("messages", [{"role": "user", "content": []}]),
        ("messages", [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": "data:a"}]}]),
        ("messages", [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]),
    ],
)  # fmt: skip
def test_fields_without_effect_are_refused_by_name(field, value):
    assert field in refusal(request(**{field: value}))


WRONG_TYPES = [
    *((name, value) for name in ("max_tokens", "max_completion_tokens", "seed", "n", "top_logprobs") for value in
      (True, False, "1", 1.5, [1])),
    *((name, value) for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty") for value in
      (True, False, "1", [1])),
    *((name, value) for name in ("stream", "logprobs", "store", "parallel_tool_calls") for value in (0, 1, "false")),
    *((name, value) for name in ("model", "method", "user", "positions") for value in (True, 1, ["a"])),
    ("stop", True), ("stop", [1]), ("stop", {"a": 1}), ("metadata", {"a": True}), ("modalities", "text"),
    ("stream_options", {"include_usage": 1}), ("stream_options", {"include_obfuscation": 0}), ("stream_options", True),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), WRONG_TYPES)
def test_a_boolean_is_no_number_and_a_number_is_no_boolean(field, value):
    assert refusal(request(**{field: value})).startswith(field)


@pytest.mark.parametrize(
    ("part", "start"),
    [
        ({"type": "image_url", "image_url": "data:a"}, "messages.0.content.1.image_url: "),
        ({"type": "input_audio"}, "messages.0.content.1: its type 'input_audio'"),
        ({"type": "video_url", "video_url": "data:a"}, "messages.0.content.1.video_url: "),
        ({"text": "a"}, "messages.0.content.1: "),
        ({"type": "text", "text": "a", "cache_control": {"a": 1}}, "messages.0.content.1.cache_control: it has no "),
    ],
)
def test_a_wrong_part_is_named(part, start):
    turn = {"role": "user", "content": [{"type": "text", "text": "a"}, part]}
    assert refusal(request(messages=[turn])).startswith(start)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"5", b"\xff\xfe", b"[" * 100_000, b"{" + b'"a":{' * 50_000, b'{"a":"\xed\xa0\x80"}',
        json.dumps(request()).encode("utf-16"), b'{"model":"\\ud83d"}',
    ],
    ids=range(10),
)  # fmt: skip
def test_bodies_that_are_not_json_objects(body):
    assert "JSON" in refusal(body)


def test_the_first_mistake_is_named():
    assert refusal({"messages": []}).startswith("model")
    assert refusal(b'{"model":"m","messages":[' + b"0," * 1000 + b"0]}").startswith("messages.0")
    assert "temperature" in refusal(b'{"model":"m","messages":[{"role":"user","content":"a"}],"temperature":NaN}')


def test_a_body_with_too_many_values():
    assert "values" in refusal(b'{"messages":[' + b"0," * 1_000_000 + b"0]}")


def test_stop_strings():
    assert parsed(stop="a").stops() == ("a",)
    assert parsed(stop=["a", "", "b"]).stops() == ("a", "b")
    with pytest.raises(RequestError, match="at most 4"):
        parsed(stop=list("abcde")).stops()
    with pytest.raises(RequestError, match="256 characters"):
        parsed(stop="a" * 257).stops()
