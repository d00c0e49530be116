"""Refused requests, with the HTTP status and the body that OpenAI's clients understand."""

import traceback
from typing import Literal

import torch
from pydantic import with_config
from typing_extensions import TypedDict

from foveate.apps.serve.worker import QueueFull, WorkerStopped
from foveate.errors import EncoderError, FoveateError

RETRY_SECONDS = 1
MAX_MESSAGE = 600  # characters: what a request names may be as long as its body
ErrorKind = Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]
KINDS: dict[int, ErrorKind] = {
    401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error",
}  # fmt: skip


@with_config(extra="forbid")
class ErrorDetails(TypedDict):
    """What is wrong: a sentence that names the fix, and a code and the name of a field for programs."""

    message: str
    type: ErrorKind
    param: str | None
    code: str | None


@with_config(extra="forbid")
class ErrorBody(TypedDict):
    """The error object of OpenAI's protocol."""

    error: ErrorDetails


class RequestError(Exception):
    """A refused request: HTTP status, a sentence that names the fix, and a code for programs."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(_shorten(message))
        self.status, self.message, self.code = status, str(self), code
        self.param = None if param is None else _shorten(param)

    def body(self) -> ErrorBody:
        """The error object of OpenAI's protocol."""
        kind = KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Headers that the status requires."""
        if self.status in (429, 503):
            return {"Retry-After": str(RETRY_SECONDS)}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}


def to_request_error(error: BaseException) -> RequestError:
    """The refusal for an exception: details of a wrong request, but none of an internal failure.

    It is a new exception without a traceback, whose frames would refer to the request's body.
    """
    match error:
        case RequestError():
            return RequestError(error.status, error.message, code=error.code, param=error.param)
        case QueueFull():
            return RequestError(503, "The server is busy and its queue is full: try again later.", code="busy")
        case WorkerStopped():
            return RequestError(503, "The server is stopping: send the request again later.", code="stopping")
        case FoveateError() if not isinstance(error, EncoderError):  # that is the model's own failure
            return RequestError(400, str(error))
        case torch.cuda.OutOfMemoryError():
            message = "The request did not fit into memory: send fewer or smaller images."
            return RequestError(503, message, code="out_of_memory")
    return RequestError(500, "The server failed on this request: its log says why.", code="internal_error")


def clear_frames(error: BaseException | None) -> None:
    """Drop the local variables of the functions that an exception and its causes have left.

    A frame that refers to its own exception is a cycle, and would keep the body of a refused request in memory until
    the garbage collector runs.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _shorten(text: str) -> str:
    """The beginning and the end of a long text."""
    half = MAX_MESSAGE // 2
    return text if len(text) <= MAX_MESSAGE else f"{text[:half]} ... {text[-half:]}"
