import json
from types import SimpleNamespace

import pytest
import torch

from foveate.apps.serve.answer import Answered, Pruned
from foveate.apps.serve.errors import Refused
from foveate.apps.serve.protocol import Words, event, parse
from foveate.pipeline.prune import PrunedInputs, Report


def request(**more):
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}


def parsed(**more):
    return parse(json.dumps(request(**more)).encode())


def refused(given):
    with pytest.raises(Refused) as found:
        parse(given if isinstance(given, bytes) else json.dumps(given).encode())
    assert found.value.status == 400
    return found.value.message


def test_turns_and_pictures():
    found = parsed(
        messages=[
            {"role": "developer", "content": "be brief"},
            {
                "role": "user", "name": None,
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:a"}}, {"type": "text", "text": "what"},
                    {"type": "image_url", "image_url": {"url": "data:b", "detail": "low"}},
                ],
            },
            # As a client sends back what it was answered.
            {"role": "assistant", "content": "a cat", "refusal": None, "tool_calls": None, "annotations": []},
            {"role": "user", "content": "and now"},
        ]
    )  # fmt: skip
    assert found.turns() == [
        {"role": "system", "content": [{"type": "text", "text": "be brief"}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what"}, {"type": "image"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "a cat"}]},
        {"role": "user", "content": [{"type": "text", "text": "and now"}]},
    ]
    assert [(image.url, image.detail) for image in found.images()] == [("data:a", "auto"), ("data:b", "low")]


def test_keep_is_a_number_of_tokens_or_a_share():
    assert [type(parsed(keep=keep).keep) for keep in (1, 1.0, 64, 0.25)] == [int, float, int, float]
    for keep in ("0.1", True, [1], 10**400, -(10**9)):
        assert refused(request(keep=keep)) == "keep: give a number of tokens (64), or a share of them (0.1)."


def test_what_says_nothing_is_allowed():
    found = parsed(
        n=1, logprobs=False, frequency_penalty=0, presence_penalty=0.0, response_format={"type": "text"}, tools=[],
        logit_bias={}, user="me", metadata={"a": "b"}, store=False, stop=None, seed=None, top_logprobs=0,
        stream_options=None, service_tier="auto", modalities=["text"],
    )  # fmt: skip
    assert found.stops() == ()


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
def test_what_would_not_be_followed_is_refused_by_name(field, value):
    assert field in refused(request(**{field: value}))


def test_a_part_that_is_wrong_is_named():
    for part, words in (
        ({"type": "image_url", "image_url": "data:a"}, "messages.0.content.1.image_url: "),
        ({"type": "video_url"}, "messages.0.content.1: Input tag 'video_url'"),
        ({"text": "a"}, "messages.0.content.1: "),
        (
            {"type": "text", "text": "a", "cache_control": {"a": 1}},
            "messages.0.content.1.cache_control: it has no effect",
        ),
    ):
        turn = {"role": "user", "content": [{"type": "text", "text": "a"}, part]}
        assert refused(request(messages=[turn])).startswith(words)


def test_bodies_that_are_no_requests():
    utf16 = json.dumps(request()).encode("utf-16")
    for given in (
        b"",
        b"{",
        b"[]",
        b"5",
        b"\xff\xfe",
        b"[" * 100_000,
        b"{" + b'"a":{' * 50_000,
        b'{"a":"\xed\xa0\x80"}',
        utf16,
        b'{"model":"\\ud83d"}',
    ):
        assert "JSON" in refused(given)
    assert refused({"messages": []}).startswith("model")
    assert "values" in refused(b'{"messages":[' + b"0," * 1_000_000 + b"0]}")
    assert refused(b'{"model":"m","messages":[' + b"0," * 100_000 + b"0]}").startswith("messages.0")
    assert "temperature" in refused(b'{"model":"m","messages":[{"role":"user","content":"a"}],"temperature":NaN}')


def test_stop_strings():
    assert parsed(stop="a").stops() == ("a",)
    assert parsed(stop=["a", "", "b"]).stops() == ("a", "b")
    with pytest.raises(Refused, match="at most 4"):
        parsed(stop=list("abcde")).stops()
    with pytest.raises(Refused, match="256 letters"):
        parsed(stop="a" * 257).stops()


def test_an_answer_s_words():
    report = Report((torch.arange(5), torch.arange(3)), (16, 16), ((1, 4, 4),) * 2, "grid", 0.25, ("careful",))
    pruned = Pruned(PrunedInputs({}, report), 0.5, 20)
    answered = Answered(7, "length", 0.125, 4096)
    words = Words.new("m")
    found = words.whole("hello", pruned, answered, ("a note",))
    assert found["choices"][0]["message"]["content"] == "hello"
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["usage"] == {
        "prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27,
        "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": 8},
    }  # fmt: skip
    assert found["foveate"] == {
        "method": "grid", "kept": [5, 3], "total": [16, 16], "kv_bytes": 4096, "notes": ["a note", "careful"],
        "seconds": {"encode": 0.5, "select": 0.25, "prefill": 0.125},
    }  # fmt: skip
    piece = words.piece({"content": "a"})
    assert piece["object"] == "chat.completion.chunk"
    assert piece["id"] == found["id"] != Words.new("m").id
    assert event(piece) == f"data: {json.dumps(piece)}\n\n"
    assert event("[DONE]") == "data: [DONE]\n\n"


def test_openai_s_own_types_read_them():
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    report = Report((torch.arange(5),), (16,), ((1, 4, 4),), "grid", 0.25)
    pruned, answered = Pruned(PrunedInputs({}, report), 0.5, 20), Answered(7, "stop", 0.125, 4096)
    words = Words.new("m")
    whole = ChatCompletion.model_validate(words.whole("hello", pruned, answered, ()))
    assert whole.usage.prompt_tokens_details.image_tokens == 5
    for piece in (words.piece({"role": "assistant"}), words.piece({}, "stop"), words.last(pruned, answered)):
        ChatCompletionChunk.model_validate(piece)
    assert SimpleNamespace(**whole.model_extra["foveate"]).kept == [5]
