"""The body of an OpenAI chat completion: parsing and checks."""

import json
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    StrictFloat,
    StrictInt,
    ValidationError,
)

from foveate.apps.encoder import WHOLE, EncoderOptions
from foveate.apps.serve.chat_parts import ImagePart, ImageURL, Part, StrictBody, TextPart, VideoPart
from foveate.apps.serve.errors import RequestError
from foveate.apps.serve.field_checks import MAX_FIELDS, EncodeShare, Off, SkipThreshold, at_most, only
from foveate.apps.serve.field_errors import to_field_error
from foveate.apps.serve.generation import SamplingOptions
from foveate.method.checks import is_number
from foveate.pipeline.settings import Positions

MAX_STOPS, STOP_LENGTH = 4, 256
MAX_KEEP = 10**9
MAX_COMMAS = 200_000  # caps the number of JSON values
MAX_MESSAGES, MAX_PARTS = 1024, 4096  # of a conversation


def _as_parts(value: Any) -> Any:
    """A plain string is one text part."""
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_keep(value: Any) -> Any:
    if isinstance(value, str) and value == "auto":
        return value
    if not is_number(value) or not -MAX_KEEP < value < MAX_KEEP:
        raise ValueError('give a number of tokens (64), a share of them (0.1), or "auto" where the model has a policy')
    return value


Parts = Annotated[list[Part], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]


class Message(StrictBody):
    """One turn, with its parts in order."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Parts, BeforeValidator(at_most(MAX_PARTS, "parts")),
        BeforeValidator(_as_parts, json_schema_input_type=Parts | str),
    ]  # fmt: skip


Keep = Annotated[int, Field(ge=1, lt=MAX_KEEP)] | Annotated[float, Field(gt=0, le=1)] | Literal["auto"]
Stop = Annotated[str, Field(max_length=STOP_LENGTH)]
Stops = Annotated[list[Stop], Field(max_length=MAX_STOPS)]


class StreamOptions(StrictBody):
    """Extra content of a stream."""

    include_usage: bool = False
    include_obfuscation: Off = False


class CompletionRequest(StrictBody):
    """A request. OpenAI's fields that are not listed here have no effect and are refused."""

    model: str
    messages: Annotated[
        list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True),
        BeforeValidator(at_most(MAX_MESSAGES, "messages")),
    ]  # fmt: skip
    keep: Annotated[
        StrictInt | StrictFloat | Literal["auto"], BeforeValidator(_as_keep, json_schema_input_type=Keep)
    ] | None = None  # fmt: skip
    method: str | None = None
    positions: Positions | None = None
    encode: EncodeShare | None = None
    skip: SkipThreshold | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[
        Stops, BeforeValidator(at_most(MAX_STOPS, "stop strings")),
        BeforeValidator(_as_list, json_schema_input_type=Stops | Stop),
    ] = []  # fmt: skip
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    # Accepted only at values without effect.
    n: Annotated[Literal[1], only(int)] = 1
    logprobs: Off = False
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] = 0
    presence_penalty: Annotated[float, Field(ge=0, le=0)] = 0
    response_format: Annotated[
        dict[Literal["type"], Literal["text"]],
        Field(max_length=MAX_FIELDS),
        BeforeValidator(at_most(MAX_FIELDS, "fields")),
    ] = {"type": "text"}
    tool_choice: Literal["none", "auto"] = "none"
    parallel_tool_calls: bool = True
    store: Off = False
    top_logprobs: Annotated[Literal[0], only(int)] = 0
    modalities: Annotated[list[Literal["text"]], Field(fail_fast=True)] = ["text"]
    service_tier: Literal["auto", "default"] = "auto"
    user: str = ""
    safety_identifier: str = ""
    metadata: Annotated[
        dict[str, str], Field(max_length=MAX_FIELDS), BeforeValidator(at_most(MAX_FIELDS, "entries"))
    ] = {}

    def encoder(self, default: EncoderOptions) -> EncoderOptions:
        """The options of the server with those of the request, which decides alone what is encoded, in their place."""
        if self.encode is None and self.skip is None:
            return default
        return replace(default, encode=WHOLE.encode if self.encode is None else self.encode, skip=self.skip)

    def sampling(self) -> SamplingOptions:
        """How tokens are drawn."""
        return SamplingOptions(self.temperature, self.top_p, self.seed)

    def stops(self) -> tuple[str, ...]:
        """The stop strings without empty ones, which would stop at once."""
        return tuple(filter(None, self.stop))

    def turns(self) -> list[dict[str, Any]]:
        """The conversation in the form of chat templates; "developer" is the newer name of "system"."""
        return [
            {
                "role": "system" if message.role == "developer" else message.role,
                "content": [
                    {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": part.type[:5]}
                    for part in message.content
                ],
            }
            for message in self.messages
        ]

    def images(self) -> list[ImageURL]:
        """The images of all turns, in order."""
        return [part.image_url for m in self.messages for part in m.content if isinstance(part, ImagePart)]

    def videos(self) -> list[str]:
        """The URLs of the videos of all turns, in order."""
        return [part.video_url.url for m in self.messages for part in m.content if isinstance(part, VideoPart)]


def parse_object(body: bytes) -> dict[str, Any]:
    """The fields of a body that is a JSON object. Raises `RequestError`."""
    if body.count(b",") > MAX_COMMAS:
        raise RequestError(400, f"The body holds more than {MAX_COMMAS} values.", code="invalid_json")
    try:
        text = body.decode()
        fields = json.loads(text)
        if "\\u" in text:
            json.dumps(fields, ensure_ascii=False).encode()  # fails for half a surrogate pair, which is no text
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "The body is not JSON.", code="invalid_json") from error
    if not isinstance(fields, dict):
        raise RequestError(400, "The body is not a JSON object.", code="invalid_json")
    return fields


def parse_request(body: bytes) -> CompletionRequest:
    """Parse a request body. Raises `RequestError` for its first mistake."""
    fields = parse_object(body)
    try:
        request = CompletionRequest.model_validate(fields)
    except ValidationError as error:
        raise to_field_error(error) from error
    parts = sum(len(message.content) for message in request.messages)
    if parts > MAX_PARTS:
        message = f"The conversation has {parts} parts: this server takes at most {MAX_PARTS}."
        raise RequestError(400, message, param="messages")
    return request
