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
        details = {"usage": usage(end), "foveate": pruning_details(end)}
        return {**self._head("chat.completion"), "choices": [choice], **details}

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
    read, new = end.prompt.tokens, end.result.tokens
    tokens = {"prompt_tokens": read, "completion_tokens": new, "total_tokens": read + new}
    return {**tokens, "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": end.prompt.report.kept_count}}


def pruning_details(end: AnswerEnd) -> dict[str, Any]:
    """Kept and all tokens of each image, seconds of the stages, bytes of the KV cache, and notes."""
    prompt, report, result = end.prompt, end.prompt.report, end.result
    return {
        "method": report.method,
        "kept": [len(item.kept) for item in report.items],
        "total": [item.total for item in report.items],
        "seconds": {"encode": prompt.encode_seconds, "select": report.seconds, "prefill": result.prefill_seconds},
        "kv_bytes": result.kv_bytes,
        "notes": list(dict.fromkeys([*end.notes, *report.notes])),
    }


def server_sent_event(data: dict[str, Any] | str) -> str:
    """The text of one server-sent event."""
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"
