"""The body of a demo request: parsing and checks."""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from foveate.apps.demo.events import AnswerKind
from foveate.apps.encoder import WHOLE, EncoderOptions
from foveate.apps.serve.chat_parts import StrictBody
from foveate.apps.serve.chat_request import parse_object
from foveate.apps.serve.errors import RequestError
from foveate.apps.serve.field_checks import EncodeShare, at_most
from foveate.apps.serve.field_errors import to_field_error
from foveate.apps.serve.images import ImageSource, decode_data_url
from foveate.method.checks import is_number
from foveate.runtime.conversation import ChatMessage

Body = TypeVar("Body", bound=StrictBody)
CLIP = "data:video/"
TURNS = 16  # earlier questions of a conversation, at most


class EarlierTurn(StrictBody):
    """An earlier question about the image, and its answer."""

    question: Annotated[str, Field(max_length=2000)]
    answer: Annotated[str, Field(max_length=8000)]


@dataclass(frozen=True)
class DemoRequest:
    """A checked question about the file of an image or of a clip, and how to prune; `key` identifies the file.

    `turns` are the earlier ones of the conversation, the oldest first. `compared` is the same question with another
    budget or method, to answer beside this one.
    """

    file: bytes
    key: str
    question: str
    keep: float | Literal["auto"]
    method: str
    encoder: EncoderOptions = WHOLE
    turns: tuple[EarlierTurn, ...] = ()
    is_clip: bool = False
    compared: "DemoRequest | None" = None

    def list_arms(self) -> "dict[AnswerKind, DemoRequest]":
        """The pruned answers that are meant, in order."""
        arms: dict[AnswerKind, DemoRequest] = {"pruned": self}
        if self.compared is not None:
            arms["compared"] = self.compared
        return arms

    def make_messages(self, images: int) -> list[ChatMessage]:
        """The conversation for a chat template; so many images come before the first question."""
        texts = [text for turn in self.turns for text in (turn.question, turn.answer)]
        first, *others = [[{"type": "text", "text": text}] for text in (*texts, self.question)]
        contents = [[*[{"type": "image"}] * images, *first], *others]
        return [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]


def _as_keep(value: Any) -> Any:
    if value != "auto" and not (is_number(value) and 0 < value <= 1):
        raise ValueError('give a share of the tokens above 0 (0.1), 1 for all, or "auto"')
    return value


class FileBody(StrictBody):
    """The JSON field of a request for frames: a clip as a data URL."""

    image: str


class PruningBody(StrictBody):
    """How to prune: `keep` is a share of the visual tokens, or "auto" for the page's policy."""

    keep: Annotated[float | Literal["auto"], BeforeValidator(_as_keep)]
    method: str


class LookBody(PruningBody):
    """The JSON fields: an image or a clip as a data URL, a question, and how to prune.

    `encode` is a share of the image. The question follows the `turns`.
    """

    image: str
    question: Annotated[str, Field(max_length=2000)]
    encode: EncodeShare = WHOLE.encode
    turns: Annotated[list[EarlierTurn], BeforeValidator(at_most(TURNS, "earlier questions"))] = Field(default=[])


class AskBody(LookBody):
    """These fields, and another budget or method to answer with."""

    compare: PruningBody | None = None


def read_look(body: bytes, *, methods: Sequence[str], source: ImageSource) -> DemoRequest:
    """Parse and check a body that asks for the kept tokens; `methods` are the available ones. Raises `RequestError`."""
    fields = _check(LookBody, body)
    _check_method(fields.method, methods)
    return _to_request(fields, source)


def read_request(body: bytes, *, methods: Sequence[str], source: ImageSource) -> DemoRequest:
    """Parse and check a body that asks for answers, as `read_look` does."""
    fields = _check(AskBody, body)
    _check_method(fields.method, methods)
    if fields.compare is None:
        return _to_request(fields, source)
    _check_method(fields.compare.method, methods)
    request = _to_request(fields, source)
    return replace(request, compared=replace(request, keep=fields.compare.keep, method=fields.compare.method))


def read_clip_request(body: bytes, source: ImageSource) -> DemoRequest:
    """Parse and check a body that asks for the frames of a clip. Raises `RequestError`."""
    fields = _check(FileBody, body)
    if not _is_clip(fields.image):
        raise RequestError(400, "The clip is no data URL of a video: send it as data:video/mp4;base64,...")
    return make_request(_read_file(fields.image, source), "", 1.0, "foveate", is_clip=True)


def _check(kind: type[Body], body: bytes) -> Body:
    data = parse_object(body)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise to_field_error(error) from error


def _check_method(method: str, methods: Sequence[str]) -> None:
    if method not in methods:
        raise RequestError(400, f"There is no method {method!r} here: use one of {', '.join(methods)}.")


def _to_request(fields: LookBody, source: ImageSource) -> DemoRequest:
    if not fields.question.strip():
        raise RequestError(400, "There is no question: type one.")
    return make_request(
        _read_file(fields.image, source),
        fields.question.strip(),
        fields.keep,
        fields.method,
        EncoderOptions(fields.encode),
        fields.turns,
        is_clip=_is_clip(fields.image),
    )


def _is_clip(url: str) -> bool:
    return url[: len(CLIP)].lower() == CLIP


def _read_file(url: str, source: ImageSource) -> bytes:
    if url[:5].lower() != "data:":
        raise RequestError(400, "The image is no data URL: send it as data:image/png;base64,...")
    if not _is_clip(url):
        (file,) = source.read([url])
        return file
    if importlib.util.find_spec("av") is None:
        raise RequestError(400, "This page shows no clips without PyAV: pip install 'foveate[video]'.")
    return decode_data_url(url, "video", "video/mp4")


def make_request(
    file: bytes, question: str, keep: float | Literal["auto"], method: str, encoder: EncoderOptions = WHOLE,
    turns: Sequence[EarlierTurn] = (), *, is_clip: bool = False,
) -> DemoRequest:  # fmt: skip
    """A request about a checked file."""
    key = hashlib.sha256(file).hexdigest()
    return DemoRequest(file, key, question, keep, method, encoder, tuple(turns), is_clip)
