"""What a request means to vLLM's server: settings of pruning, types, roles, and defaults as on transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields as fields_of
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from transformers import GenerationConfig

from foveate.apps.serve.chat_request import CompletionRequest
from foveate.apps.serve.errors import RequestError
from foveate.apps.serve.field_errors import to_field_error
from foveate.integrations.vllm.settings import FIELD, VllmSettings

FieldTypes = Mapping[str, TypeAdapter[Any]]
CHAT = "/v1/chat/completions"
SETTINGS = tuple(field.name for field in fields_of(VllmSettings))
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
PLAIN = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
EMPTY: tuple[Any, ...] = (None, [], {})  # clients send unset fields like this


@dataclass(frozen=True)
class EngineFacts:
    """What the server was started with.

    `trusts_requests`: requests may have settings; `opens_files`: they may name files; `is_greedy`: an answer without a
    temperature is greedy, by the checkpoint.
    """

    trusts_requests: bool = False
    opens_files: bool = False
    is_greedy: bool = True

    @classmethod
    def from_options(cls, options: Any) -> EngineFacts:
        """From the parsed options of `vllm serve`."""
        is_own = options.generation_config == "auto" and "temperature" not in (options.override_generation_config or {})
        is_greedy = is_own and not _does_sample(options.model, options.revision)
        return cls(options.trust_request_mm_kwargs, bool(options.allowed_local_media_path), is_greedy)


@cache
def _does_sample(model: str, revision: str | None) -> bool:
    """Whether the checkpoint's answers are drawn, as `generate` reads it."""
    try:
        return bool(GenerationConfig.from_pretrained(model, revision=revision or "main").do_sample)
    except OSError:  # it has no generation_config.json
        return False


def adapt_body(body: bytes, path: str, types: FieldTypes, facts: EngineFacts) -> tuple[bytes, list[str]]:
    """The body for vLLM, and notes. `types` are those of vLLM's fields. Raises `RequestError` or a `FoveateError`."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return body, []  # vLLM says so
    if not isinstance(fields, dict):
        return body, []
    if path != CHAT:
        for name in SETTINGS:
            if fields.get(name) is not None:
                raise RequestError(400, f"{name} has an effect at {CHAT} alone: leave it out.", param=name)
        return body, []
    _move_settings(fields, facts)
    for name, value in fields.items():
        if value not in EMPTY and name != "messages":
            _check_field(name, value, types)
    _align_defaults(fields, facts)
    notes = [note for part in _parts(fields) for note in _check_part(part, facts)]
    return json.dumps(fields).encode(), list(dict.fromkeys(notes))


def _move_settings(fields: dict[str, Any], facts: EngineFacts) -> None:
    """Put the settings of pruning where vLLM takes them to the processor; check them, with and without images."""
    own = {name: value for name in SETTINGS if (value := fields.pop(name, None)) is not None}
    kwargs = fields.get("mm_processor_kwargs") or {}
    if not isinstance(kwargs, dict):
        return  # vLLM says so
    VllmSettings(1.0).override(kwargs.get(FIELD))
    inner = kwargs.get(FIELD) or {}
    VllmSettings(1.0).override({**inner, **own})
    for name in own:
        if not facts.trusts_requests:
            text = "this server follows no settings of requests: start it with --trust-request-mm-kwargs"
            raise RequestError(400, f"{name}: {text}, or leave {name} out.", param=name)
        if name in inner:
            raise RequestError(400, f"{name} is in mm_processor_kwargs too: leave one of them out.", param=name)
    if own:
        fields["mm_processor_kwargs"] = {**kwargs, FIELD: {**inner, **own}}


def _check_field(name: str, value: Any, types: FieldTypes) -> None:
    """Raise `RequestError` for a field that vLLM would ignore, and for a value that it would convert."""
    if name not in types:
        try:
            CompletionRequest.model_validate({**PLAIN, name: value})
        except ValidationError as error:
            raise to_field_error(error) from error
        return
    text = json.dumps(value)
    try:
        extra = getattr(types[name].validate_json(text, strict=True), "model_extra", None) or {}
    except ValidationError as error:
        try:
            types[name].validate_json(text)
        except ValidationError:
            return  # vLLM says so
        raise RequestError(400, f"{name}: {error.errors()[0]['msg']}.", param=name) from error
    for inner, part in extra.items():
        if part not in EMPTY and part is not False:
            raise RequestError(400, f"{name}.{inner}: it has no effect here, leave it out.", param=name)


def _align_defaults(fields: dict[str, Any], facts: EngineFacts) -> None:
    """Of two limits the lower one counts, and without a temperature the checkpoint says how tokens are drawn."""
    limits = [fields[name] for name in ("max_tokens", "max_completion_tokens") if isinstance(fields.get(name), int)]
    if len(limits) == 2:
        fields["max_completion_tokens"] = min(limits)
    if facts.is_greedy and fields.get("temperature") is None and fields.get("top_p") is None:
        fields["temperature"] = 0


def _parts(fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of all turns, with "developer" as the newer name of "system". Raises `RequestError` for other roles."""
    messages = fields.get("messages")
    for n, message in enumerate(messages if isinstance(messages, list) else []):
        if isinstance(message, dict):
            role, content = message.get("role"), message.get("content")
            if role not in ROLES:
                raise RequestError(
                    400, f"messages.{n}.role: use one of {', '.join(ROLES)}.", param=f"messages.{n}.role"
                )
            message["role"] = "system" if role == "developer" else role
            yield from (part for part in (content if isinstance(content, list) else []) if isinstance(part, dict))


def _check_part(part: dict[str, Any], facts: EngineFacts) -> Iterator[str]:
    """Notes about a part. Raises `RequestError` for a file's address."""
    for name, kind in (("image_url", "image/png"), ("video_url", "video/mp4"), ("audio_url", "audio/wav")):
        value = part.get(name)
        url = value.get("url") if isinstance(value, dict) else value
        if isinstance(url, str) and url.strip()[:5].lower() == "file:" and not facts.opens_files:
            message = f"This server opens no file that a request names: send it as data:{kind};base64,..."
            raise RequestError(400, message, code="remote_url", param="messages")
        detail = value.get("detail", "auto") if isinstance(value, dict) else "auto"
        if detail == "low":
            yield f"detail={detail!r} has no effect here: lower keep instead."
