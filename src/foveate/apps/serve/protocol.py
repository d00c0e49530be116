"""OpenAI's chat completions: what a request may say, and the words of an answer."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictFloat, StrictInt, ValidationError

from foveate.apps.serve.answer import Answered, Pruned, Sampling
from foveate.apps.serve.errors import Refused
from foveate.method.checks import is_number
from foveate.pipeline.prune import Positions

MAX_STOPS, STOP_LENGTH = 4, 256
MAX_KEEP = 10**9
TAG = re.compile(r"(content\.\d+)\.(?:text|image_url)\b")  # pydantic names a part's type after its place
MAX_COMMAS = 200_000  # more than the words of any prompt have; pydantic lists what is wrong value by value


def _said(value: Any) -> Any:
    """Clients send many fields as null or empty, which say nothing."""
    if not isinstance(value, dict):
        return value
    return {name: given for name, given in value.items() if given is not None and given != [] and given != {}}


def _as_parts(value: Any) -> Any:
    """Words alone are a part alone."""
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_keep(value: Any) -> Any:
    if not is_number(value) or not -MAX_KEEP < value < MAX_KEEP:
        raise ValueError("give a number of tokens (64), or a share of them (0.1)")
    return value


class Strict(BaseModel):
    """Fields that are not known are refused, since they would not be followed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TextPart(Strict):
    """Words."""

    type: Literal["text"]
    text: str


class ImageURL(Strict):
    """Where a picture is, as a rule within the URL itself."""

    url: str
    detail: Literal["auto", "low", "high", "original"] = "auto"


class ImagePart(Strict):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageURL


Part = Annotated[Annotated[TextPart | ImagePart, Field(discriminator="type")], BeforeValidator(_said)]


class Message(Strict):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Part], Field(min_length=1, fail_fast=True), BeforeValidator(_as_parts)]
    """What it holds, in order."""


class StreamOptions(Strict):
    """More that a stream is to hold."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class PlainText(Strict):
    """The one form of an answer."""

    type: Literal["text"]


class Completion(Strict):
    """A request. Of OpenAI's fields that are not listed here none has an effect, so they are refused."""

    model: str
    messages: Annotated[list[Annotated[Message, BeforeValidator(_said)]], Field(min_length=1, fail_fast=True)]
    keep: Annotated[StrictInt | StrictFloat, BeforeValidator(_as_keep)] | None = None
    method: str | None = None
    positions: Positions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[list[str], BeforeValidator(_as_list)] = []
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    # These may be said where they change nothing.
    n: Literal[1] = 1
    logprobs: Literal[False] = False
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] = 0
    presence_penalty: Annotated[float, Field(ge=0, le=0)] = 0
    response_format: PlainText = PlainText(type="text")
    tool_choice: Literal["none", "auto"] = "none"
    parallel_tool_calls: bool = True
    store: Literal[False] = False
    top_logprobs: Literal[0] = 0
    modalities: list[Literal["text"]] = ["text"]
    service_tier: Literal["auto", "default"] = "auto"
    user: str = ""
    safety_identifier: str = ""
    metadata: dict[str, str] = {}

    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(self.temperature, self.top_p, self.seed)

    def stops(self) -> tuple[str, ...]:
        """The stop strings; an empty one would stop at once and stands for none."""
        if len(self.stop) > MAX_STOPS:
            raise Refused(400, f"There are {len(self.stop)} stop strings: give at most {MAX_STOPS}.", param="stop")
        if any(len(word) > STOP_LENGTH for word in self.stop):
            raise Refused(400, f"A stop string has at most {STOP_LENGTH} letters.", param="stop")
        return tuple(word for word in self.stop if word)

    def turns(self) -> list[dict[str, Any]]:
        """The conversation as chat templates take it; "developer" is the newer name of "system"."""
        return [
            {
                "role": "system" if message.role == "developer" else message.role,
                "content": [
                    {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
                    for part in message.content
                ],
            }
            for message in self.messages
        ]

    def images(self) -> list[ImageURL]:
        """The pictures of all turns, in order."""
        return [part.image_url for m in self.messages for part in m.content if isinstance(part, ImagePart)]


def parse(body: bytes) -> Completion:
    """A request's body. Raises `Refused` with the first thing that is wrong in it."""
    if body.count(b",") > MAX_COMMAS:
        raise Refused(400, f"The body holds more than {MAX_COMMAS} values.", code="invalid_json")
    try:
        text = body.decode()
        given = json.loads(text)
        if "\\u" in text:
            json.dumps(given, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise Refused(400, "The body is not JSON.", code="invalid_json") from error
    if not isinstance(given, dict):
        raise Refused(400, "The body is no JSON object.", code="invalid_json")
    try:
        return Completion.model_validate(_said(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = TAG.sub(r"\1", ".".join(str(step) for step in first["loc"]))
        text = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            text = "it has no effect here, leave it out"
        raise Refused(400, f"{where or 'The body'}: {text}.", param=where or None) from error


@dataclass(frozen=True)
class Words:
    """The messages of one answer, each as a JSON object."""

    model: str
    id: str
    created: int

    @classmethod
    def new(cls, model: str) -> Words:
        """For a new answer."""
        return cls(model, f"chatcmpl-{uuid.uuid4().hex}", int(time.time()))

    def whole(self, text: str, pruned: Pruned, answered: Answered, notes: Sequence[str]) -> dict[str, Any]:
        """The answer in one piece."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answered.reason}
        return {
            **self._head("chat.completion"), "choices": [choice], "usage": usage(pruned, answered),
            "foveate": about(pruned, answered, notes),
        }  # fmt: skip

    def piece(self, delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
        """A part of a stream."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **more}

    def last(self, pruned: Pruned, answered: Answered) -> dict[str, Any]:
        """The part of a stream that holds the usage, where it was asked for."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage(pruned, answered)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage(pruned: Pruned, answered: Answered) -> dict[str, Any]:
    """The tokens that were really used: of the pictures those kept."""
    kept = sum(len(kept) for kept in pruned.report.kept)
    return {
        "prompt_tokens": pruned.tokens,
        "completion_tokens": answered.tokens,
        "total_tokens": pruned.tokens + answered.tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": kept},
    }


def about(pruned: Pruned, answered: Answered, notes: Sequence[str]) -> dict[str, Any]:
    """What became of the pictures: kept and all tokens of each, seconds, bytes of the KV cache, and notes."""
    report = pruned.report
    return {
        "method": report.method,
        "kept": [len(kept) for kept in report.kept],
        "total": list(report.total),
        "seconds": {"encode": pruned.encode, "select": report.seconds, "prefill": answered.prefill},
        "kv_bytes": answered.kv_bytes,
        "notes": [*notes, *report.notes],
    }


def event(data: dict[str, Any] | str) -> str:
    """A server-sent event."""
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"
