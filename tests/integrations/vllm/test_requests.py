"""What becomes of a chat request before vLLM reads it. Nothing here needs vLLM."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter

from foveate.apps.serve.errors import RequestError
from foveate.errors import FoveateError
from foveate.integrations.vllm.requests import CHAT, EngineFacts, adapt_body
from tiny import tiny_folder


class OpenOptions(BaseModel):
    """As vLLM's: further fields are ignored."""

    model_config = ConfigDict(extra="allow")
    include_usage: bool | None = True


TRUSTING = EngineFacts(trusts_requests=True)
TYPES = {
    name: TypeAdapter(kind)
    for name, kind in {
        "model": str | None, "max_tokens": int | None, "max_completion_tokens": int | None, "n": int | None,
        "temperature": float | None, "top_p": float | None, "seed": int | None, "stream": bool | None,
        "logprobs": bool | None, "stop": str | list[str] | None, "mm_processor_kwargs": dict | None,
        "stream_options": OpenOptions | None, "logit_bias": dict[str, float] | None,
    }.items()
}  # fmt: skip


def request(*parts, role="user", **more):
    content = [*parts, {"type": "text", "text": "what"}]
    return {"model": "m", "temperature": 0, "messages": [{"role": role, "content": content}], **more}


def image(url="data:image/png;base64,a", **more):
    return {"type": "image_url", "image_url": {"url": url, **more}}


def adapted(fields, facts=TRUSTING, path=CHAT):
    """The fields that vLLM gets, and the notes."""
    body, notes = adapt_body(json.dumps(fields).encode(), path, TYPES, facts)
    return json.loads(body), notes


def refusal(fields, facts=TRUSTING, path=CHAT):
    with pytest.raises((RequestError, FoveateError)) as error:
        adapted(fields, facts, path)
    return str(error.value)


def test_what_vllm_understands_stays():
    plain = request(image(), n=2, logprobs=True, stop="a", logit_bias={"5": 1})
    assert adapted(plain, EngineFacts()) == (plain, [])
    assert adapted({"prompt": "a", "method": None}, path="/v1/completions") == ({"prompt": "a", "method": None}, [])
    for body in (b"", b"{", b"[]", b"5", b"[" * 100_000):
        assert adapt_body(body, CHAT, TYPES, TRUSTING) == (body, [])


def test_settings_are_followed_at_the_top_level():
    fields, _ = adapted(request(image(), keep=0.3, method="divprune", positions=None, mm_processor_kwargs={"a": 1}))
    assert fields["mm_processor_kwargs"] == {"a": 1, "foveate": {"keep": 0.3, "method": "divprune"}}
    assert not {"keep", "method", "positions"} & set(fields)
    inner = {"foveate": {"keep": 5, "turn": "own"}}
    assert adapted(request(mm_processor_kwargs=inner))[0]["mm_processor_kwargs"] == inner
    fields, _ = adapted(request(positions="compact", mm_processor_kwargs=inner))
    assert fields["mm_processor_kwargs"]["foveate"] == {"keep": 5, "turn": "own", "positions": "compact"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keep": True}, "keep=True is a bool"), ({"keep": 7.5}, "keep=7.5"), ({"keep": "0.1"}, "keep='0.1'"),
        ({"keep": "auto"}, "a policy reads the encoded image: give keep a number, or use transformers"),
        ({"encode": 0.4}, "vLLM encodes an image whole: leave encode=0.4 out, or use transformers."),
        ({"encode": 0.4, "keep": 0.1, "method": "divprune"}, "vLLM encodes an image whole: leave encode=0.4 out"),
        ({"encode": 0}, "encode=0 is not a share"), ({"encode": "0.4"}, "encode='0.4' is not a share"),
        ({"encode": True}, "encode=True is not a share"), ({"encode": "auto"}, "leave encode=auto out"),
        ({"keep": "mine.policy.json"}, "keep='mine.policy.json'"), ({"keep": {"format": 1}}, "is a dict"),
        ({"keep": 0}, "keep=0"), ({"method": "clever"}, "There is no method 'clever'"), ({"method": 5}, "method"),
        ({"method": "visionzip"}, "visionzip reads"), ({"positions": "none"}, "positions"), ({"turn": 1}, "turn"),
        ({"reuse": "always"}, "reuse='always' is unknown: use question, picture, auto."), ({"reuse": 1}, "reuse=1"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_without_an_image_too(settings, words):
    assert words in refusal(request(**settings))
    assert words in refusal(request(mm_processor_kwargs={"foveate": settings}))


def test_settings_that_cannot_be_followed_are_refused():
    for settings in ({"keep": 0.3}, {"method": "grid"}, {"positions": "compact"}, {"turn": "own"}, {"reuse": "auto"}):
        (name,) = settings
        assert "start it with --trust-request-mm-kwargs" in refusal(request(**settings), EngineFacts())
        assert refusal(request(**settings), path="/v1/completions").startswith(f"{name} has an effect at {CHAT} alone")
    assert "keep is in mm_processor_kwargs too" in refusal(
        request(keep=0.3, mm_processor_kwargs={"foveate": {"keep": 0.3}})
    )
    assert "pass an object" in refusal(request(keep=0.3, mm_processor_kwargs={"foveate": 5}))
    assert "has no setting 'kep'" in refusal(request(mm_processor_kwargs={"foveate": {"kep": 5}}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", True), ("max_tokens", "5"), ("max_tokens", 5.0), ("temperature", True), ("temperature", "0"),
        ("top_p", True), ("seed", True), ("n", True), ("stream", 1), ("stream", "yes"), ("logprobs", 1),
        ("stream_options", {"include_usage": 1}), ("stream_options", {"typo": True}),
        ("stream_options", {"include_obfuscation": True}), ("logit_bias", {"5": True}),
        ("kep", 0.1), ("store", True), ("modalities", ["audio"]), ("service_tier", "flex"), ("prediction", {"a": 1}),
        ("verbosity", "low"), ("metadata", {"a": 1}),
    ],
)  # fmt: skip
def test_what_vllm_would_ignore_or_convert_is_refused(field, value):
    assert refusal(request(**{field: value})).startswith(field)


def test_values_without_effect_are_allowed():
    adapted(request(stream=True, stream_options={"include_usage": True, "include_obfuscation": False}))
    adapted(request(kep=None, tools=[], prediction={}, store=False, modalities=["text"], metadata={"a": "b"}))


def test_files():
    for url in ("file:///etc/passwd", "FILE:/etc/passwd", " file:a"):
        assert "opens no file" in refusal(request(image(url)))
        clip = request({"type": "video_url", "video_url": {"url": url}})
        assert "opens no file that a request names: send it as data:video/mp4;base64" in refusal(clip)
        assert "opens no file" in refusal(request({"type": "image_url", "image_url": url}))
        adapted(request(image(url)), EngineFacts(opens_files=True))
    adapted(request(image("https://a/file:b.png"), {"type": "image_url", "image_url": None}))


def test_notes():
    note = "detail='low' has no effect here: lower keep instead."
    assert adapted(request(image(detail="low"), image(detail="low"), image(detail="high")))[1] == [note]


def test_roles():
    fields, _ = adapted(request(role="developer"))
    assert fields["messages"][0]["role"] == "system"
    assert "messages.0.role: use one of system, developer" in refusal(request(role="foo"))
    for messages in (None, 5, [5], [{"role": "user", "content": [5]}], [{"role": "user"}]):
        assert adapted({**request(), "messages": messages})[0]["messages"] == messages  # vLLM refuses them


def test_the_lower_limit_counts():
    for limits in ((1, 8), (8, 1)):
        fields, _ = adapted(request(max_tokens=limits[0], max_completion_tokens=limits[1]))
        assert fields["max_completion_tokens"] == 1
    assert "max_completion_tokens" not in adapted(request(max_tokens=3))[0]


def test_without_a_temperature_the_checkpoint_says_how_tokens_are_drawn():
    for more in ({}, {"temperature": None}, {"top_p": 0.9}, {"temperature": 0.5}):
        fields = {**request(), "temperature": None, **more}
        expected = 0 if set(more.values()) <= {None} else more.get("temperature")
        assert adapted(fields)[0]["temperature"] == expected
        assert adapted(fields, EngineFacts(is_greedy=False))[0] == fields


@pytest.mark.parametrize("samples", [True, False])
def test_facts(tmp_path, samples):
    folder = tiny_folder("llava", tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": samples, "temperature": 0.7}))
    options = SimpleNamespace(
        model=str(folder), revision=None, generation_config="auto", override_generation_config={},
        trust_request_mm_kwargs=True, allowed_local_media_path="",
    )  # fmt: skip
    assert EngineFacts.from_options(options) == EngineFacts(True, False, not samples)
    options.allowed_local_media_path, options.override_generation_config = "/a", {"temperature": 0.7}
    assert EngineFacts.from_options(options) == EngineFacts(True, True, False)
