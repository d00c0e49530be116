"""The body of a demo request: parsing and checks."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from foveate.apps.encoder import WHOLE, EncoderOptions
from foveate.apps.serve.chat_parts import StrictBody
from foveate.apps.serve.chat_request import parse_object, to_field_error
from foveate.apps.serve.errors import RequestError
from foveate.apps.serve.field_checks import EncodeShare
from foveate.apps.serve.images import ImageSource
from foveate.method.checks import is_number


@dataclass(frozen=True)
class DemoRequest:
    """A checked question about an image file, and how to prune; `key` identifies the file."""

    file: bytes
    key: str
    question: str
    keep: float | Literal["auto"]
    method: str
    encoder: EncoderOptions = WHOLE


def _as_keep(value: Any) -> Any:
    if value != "auto" and not (is_number(value) and 0 < value <= 1):
        raise ValueError('give a share of the tokens above 0 (0.1), 1 for all, or "auto"')
    return value


class DemoBody(StrictBody):
    """The JSON fields: an image as a data URL, a question, and how to prune.

    `keep` is a share of the visual tokens, or "auto" for the page's policy, `encode` a share of the image.
    """

    image: str
    question: Annotated[str, Field(max_length=2000)]
    keep: Annotated[float | Literal["auto"], BeforeValidator(_as_keep)]
    method: str
    encode: EncodeShare = WHOLE.encode


def read_request(body: bytes, *, methods: Sequence[str], source: ImageSource) -> DemoRequest:
    """Parse and check a body; `methods` are the available ones. Raises `RequestError`."""
    data = parse_object(body)
    try:
        fields = DemoBody.model_validate(data)
    except ValidationError as error:
        raise to_field_error(error) from error
    if not fields.question.strip():
        raise RequestError(400, "There is no question: type one.")
    if fields.method not in methods:
        raise RequestError(400, f"There is no method {fields.method!r} here: use one of {', '.join(methods)}.")
    if fields.image[:5].lower() != "data:":
        raise RequestError(400, "The image is no data URL: send it as data:image/png;base64,...")
    (file,) = source.read([fields.image])
    encoder = EncoderOptions(fields.encode)
    return make_request(file, fields.question.strip(), fields.keep, fields.method, encoder)


def make_request(
    file: bytes, question: str, keep: float | Literal["auto"], method: str, encoder: EncoderOptions = WHOLE
) -> DemoRequest:
    """A request about a checked image file."""
    return DemoRequest(file, hashlib.sha256(file).hexdigest(), question, keep, method, encoder)
