"""What a server refuses, with the HTTP status and the body that OpenAI's clients understand."""

from __future__ import annotations

from typing import Any

import torch

from foveate.apps.serve.worker import Busy, Stopped
from foveate.errors import FoveateError

RETRY_SECONDS = 1


class Refused(Exception):
    """A request that is not answered, as a status, a sentence that names the fix, and a code for programs."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def body(self) -> dict[str, Any]:
        """In OpenAI's form."""
        kinds = {401: "authentication_error", 500: "server_error", 503: "server_error"}
        kind = kinds.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """More that the status calls for."""
        if self.status == 503:
            return {"Retry-After": str(RETRY_SECONDS)}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}


def refusal(error: BaseException) -> Refused:
    """What a client is told of an error: all of it where the request was wrong, and nothing of what broke inside."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, Busy):
        return Refused(503, "The server is busy and its queue is full: try again later.", code="busy")
    if isinstance(error, Stopped):
        return Refused(503, "The server is stopping: ask another one, or ask again later.", code="stopping")
    if isinstance(error, FoveateError):
        return Refused(400, str(error))
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return Refused(
            503, "The request did not fit into memory: send fewer or smaller pictures.", code="out_of_memory"
        )
    return Refused(500, "The server failed on this request: its log says why.", code="internal_error")
