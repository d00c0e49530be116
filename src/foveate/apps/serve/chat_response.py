"""Answers in the form of OpenAI's chat completions, in one piece or as server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

from foveate.apps.serve.events import AnswerEnd


@dataclass(frozen=True)
class ResponseWriter:
    """Writes the messages of one answer as JSON objects."""

    model: str
    id: str
    created: int

    @classmethod
    def new(cls, model: str) -> ResponseWriter:
        """A writer with a fresh id."""
        return cls(model, f"chatcmpl-{uuid.uuid4().hex}", int(time.time()))

    def completion(self, text: str, end: AnswerEnd) -> dict[str, Any]:
        """The whole answer."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": end.result.finish_reason}
        return {
            **self._head("chat.completion"), "choices": [choice], "usage": usage(end), "foveate": pruning_details(end)
        }  # fmt: skip

    def chunk(self, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
        """A part of a stream."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **more}

    def usage_chunk(self, end: AnswerEnd) -> dict[str, Any]:
        """The part of a stream with the usage."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage(end)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage(end: AnswerEnd) -> dict[str, Any]:
    """The tokens that the model read and wrote; of the visual tokens those kept."""
    kept = end.prompt.report.kept_count
    return {
        "prompt_tokens": end.prompt.tokens,
        "completion_tokens": end.result.tokens,
        "total_tokens": end.prompt.tokens + end.result.tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": kept},
    }


def pruning_details(end: AnswerEnd) -> dict[str, Any]:
    """Kept and all tokens of each image, seconds of the stages, bytes of the KV cache, and notes."""
    report = end.prompt.report
    return {
        "method": report.method,
        "kept": [len(item.kept) for item in report.items],
        "total": [item.total for item in report.items],
        "seconds": {
            "encode": end.prompt.encode_seconds,
            "select": report.seconds,
            "prefill": end.result.prefill_seconds,
        },
        "kv_bytes": end.result.kv_bytes,
        "notes": [*end.notes, *report.notes],
    }


def server_sent_event(data: dict[str, Any] | str) -> str:
    """The text of one server-sent event."""
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"
