"""Answers in the form of OpenAI's chat completions, in one piece or as server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from foveate.apps.encoder import list_shares
from foveate.apps.serve.events import AnswerEnd
from foveate.apps.serve.generation import FinishReason

Sealed = with_config(extra="forbid")  # the types are the description of the server: an answer has no further fields


@Sealed
class AnswerMessage(TypedDict):
    """The text of an answer."""

    role: Literal["assistant"]
    content: str
    refusal: None


@Sealed
class AnswerChoice(TypedDict):
    """The one answer of a completion."""

    index: int
    message: AnswerMessage
    logprobs: None
    finish_reason: FinishReason


@Sealed
class AnswerDelta(TypedDict, total=False):
    """What a part of a stream adds."""

    role: Literal["assistant"]
    content: str


@Sealed
class ChunkChoice(TypedDict):
    """The one answer of a stream."""

    index: int
    delta: AnswerDelta
    logprobs: None
    finish_reason: FinishReason | None


@Sealed
class PromptTokenDetails(TypedDict):
    """Kinds of tokens in the prompt."""

    cached_tokens: int
    image_tokens: int


@Sealed
class TokenUsage(TypedDict):
    """The tokens that the model read and wrote; of the visual tokens those kept."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokenDetails


@Sealed
class StageSeconds(TypedDict):
    """Seconds of the stages."""

    encode: float
    select: float
    prefill: float


@Sealed
class PruningDetails(TypedDict):
    """Kept and all tokens of each image, the share of its tiles that was encoded, why a policy keeps so many, seconds.

    The seconds are those of the stages. Then the bytes of the KV cache, and notes. `reused` images were not encoded for
    this request.
    """

    method: str
    kept: list[int]
    total: list[int]
    encoded: list[float]
    reasons: list[str]
    reused: int
    seconds: StageSeconds
    kv_bytes: int
    notes: list[str]


@Sealed
class ChatCompletion(TypedDict):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[AnswerChoice]
    usage: TokenUsage
    foveate: PruningDetails


@Sealed
class ChatCompletionChunk(TypedDict):
    """A part of a stream. The last one with a choice has `foveate`; `usage` is in one without a choice."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: NotRequired[TokenUsage]
    foveate: NotRequired[PruningDetails]


@Sealed
class ModelCard(TypedDict):
    """A model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


@Sealed
class ModelList(TypedDict):
    """The models of the server."""

    object: Literal["list"]
    data: list[ModelCard]


@Sealed
class HealthStatus(TypedDict):
    """Whether the model's thread runs."""

    status: Literal["ok", "dead"]
    model: str


def make_id() -> str:
    """A fresh id of a chat completion."""
    return f"chatcmpl-{uuid.uuid4().hex}"


@dataclass(frozen=True)
class ResponseWriter:
    """Writes the messages of one answer as JSON objects."""

    model: str
    id: str
    created: int

    @classmethod
    def new(cls, model: str, name: str | None = None) -> ResponseWriter:
        """A writer with this id, or with a fresh one."""
        return cls(model, name or make_id(), int(time.time()))

    def completion(self, text: str, end: AnswerEnd) -> ChatCompletion:
        """The whole answer."""
        message: AnswerMessage = {"role": "assistant", "content": text, "refusal": None}
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": end.result.finish_reason}],
            "usage": usage(end),
            "foveate": pruning_details(end),
        }

    def chunk(self, delta: AnswerDelta) -> ChatCompletionChunk:
        """A part of a stream."""
        return self._chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}])

    def last_chunk(self, end: AnswerEnd) -> ChatCompletionChunk:
        """The part of a stream with the reason of its end and the details of pruning."""
        choice: ChunkChoice = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": end.result.finish_reason}
        return {**self._chunk([choice]), "foveate": pruning_details(end)}

    def usage_chunk(self, end: AnswerEnd) -> ChatCompletionChunk:
        """The part of a stream with the usage."""
        return {**self._chunk([]), "usage": usage(end)}

    def _chunk(self, choices: list[ChunkChoice]) -> ChatCompletionChunk:
        head: Literal["chat.completion.chunk"] = "chat.completion.chunk"
        return {"id": self.id, "object": head, "created": self.created, "model": self.model, "choices": choices}


def usage(end: AnswerEnd) -> TokenUsage:
    """The tokens that the model read and wrote; of the visual tokens those kept."""
    read, new = end.prompt.tokens, end.result.tokens
    return {
        "prompt_tokens": read,
        "completion_tokens": new,
        "total_tokens": read + new,
        "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": end.prompt.report.kept_count},
    }


def pruning_details(end: AnswerEnd) -> PruningDetails:
    """What was pruned, and what it cost."""
    prompt, report, result = end.prompt, end.prompt.report, end.result
    return {
        "method": report.method,
        "kept": [len(item.kept) for item in report.items],
        "total": [item.total for item in report.items],
        "encoded": list_shares(report.items),
        "reasons": [item.reason for item in report.items if item.reason],
        "reused": prompt.reused,
        "seconds": {"encode": prompt.encode_seconds, "select": report.seconds, "prefill": result.prefill_seconds},
        "kv_bytes": result.kv_bytes,
        "notes": list(dict.fromkeys([*end.notes, *report.notes])),
    }


def server_sent_event(data: Mapping[str, object] | str) -> str:
    """The text of one server-sent event."""
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"
