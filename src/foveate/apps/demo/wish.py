"""What the page sends, checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foveate.apps.demo.desk import Asked
from foveate.apps.serve.errors import Refused
from foveate.apps.serve.pictures import Source


class Wish(BaseModel):
    """A picture as a data URL, a question, and how to prune; `keep` is a share of the visual tokens."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    picture: str
    question: Annotated[str, Field(max_length=2000)]
    keep: Annotated[float, Field(gt=0, le=1)]
    method: str


def read(body: bytes, *, names: Sequence[str], source: Source) -> Asked:
    """Check a request's body; `names` are the methods that are offered. Raises `Refused`."""
    try:
        wish = Wish.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "The body"
        raise Refused(400, f"{where}: {first['msg']}.") from error
    if not wish.question.strip():
        raise Refused(400, "There is no question: type one.")
    if wish.method not in names:
        raise Refused(400, f"The method {wish.method!r} is not offered here: use one of {', '.join(names)}.")
    if wish.picture[:5].lower() != "data:":
        raise Refused(400, "The picture is no data URL: send it as data:image/png;base64,...")
    (file,) = source.read([wish.picture])
    return asked(file, wish.question.strip(), wish.keep, wish.method)


def asked(file: bytes, question: str, keep: float, method: str) -> Asked:
    """A question about a picture file that was checked."""
    return Asked(file, hashlib.sha256(file).hexdigest(), question, keep, method)
