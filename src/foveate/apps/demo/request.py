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
from foveate.apps.serve.field_checks import EncodeShare, at_most
from foveate.apps.serve.images import ImageSource
from foveate.method.checks import is_number
from foveate.runtime.conversation import ChatMessage

TURNS = 16  # earlier questions of a conversation, at most


class EarlierTurn(StrictBody):
    """An earlier question about the image, and its answer."""

    question: Annotated[str, Field(max_length=2000)]
    answer: Annotated[str, Field(max_length=8000)]


@dataclass(frozen=True)
class DemoRequest:
    """A checked question about an image file, and how to prune; `key` identifies the file.

    `turns` are the earlier ones of the conversation, the oldest first.
    """

    file: bytes
    key: str
    question: str
    keep: float | Literal["auto"]
    method: str
    encoder: EncoderOptions = WHOLE
    turns: tuple[EarlierTurn, ...] = ()

    @property
    def messages(self) -> list[ChatMessage]:
        """The conversation for a chat template; the image comes before the first question."""
        texts = [text for turn in self.turns for text in (turn.question, turn.answer)]
        first, *others = [[{"type": "text", "text": text}] for text in (*texts, self.question)]
        contents = [[{"type": "image"}, *first], *others]
        return [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]


def _as_keep(value: Any) -> Any:
    if value != "auto" and not (is_number(value) and 0 < value <= 1):
        raise ValueError('give a share of the tokens above 0 (0.1), 1 for all, or "auto"')
    return value


class DemoBody(StrictBody):
    """The JSON fields: an image as a data URL, a question, and how to prune.

    `keep` is a share of the visual tokens, or "auto" for the page's policy, `encode` a share of the image. The question
    follows the `turns`.
    """

    image: str
    question: Annotated[str, Field(max_length=2000)]
    keep: Annotated[float | Literal["auto"], BeforeValidator(_as_keep)]
    method: str
    encode: EncodeShare = WHOLE.encode
    turns: Annotated[list[EarlierTurn], BeforeValidator(at_most(TURNS, "earlier questions"))] = Field(default=[])


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
    return make_request(file, fields.question.strip(), fields.keep, fields.method, encoder, fields.turns)


def make_request(
    file: bytes, question: str, keep: float | Literal["auto"], method: str, encoder: EncoderOptions = WHOLE,
    turns: Sequence[EarlierTurn] = (),
) -> DemoRequest:  # fmt: skip
    """A request about a checked image file."""
    return DemoRequest(file, hashlib.sha256(file).hexdigest(), question, keep, method, encoder, tuple(turns))
