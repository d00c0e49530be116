"""What a server is started with."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.method import Method
from foveate.pipeline.prune import Positions

MIB = 2**20
MEGAPIXEL = 10**6


@dataclass(frozen=True)
class Limits:
    """How much one request, and all that wait, may ask for.

    `body` and `pixels` (of all pictures together) bound what comes in, `images` are those of a whole conversation;
    `prompt` (None: no limit) are tokens before pruning, `new` those of an answer; `waiting` requests stand behind the
    one at the model.
    """

    body: int = 20 * MIB
    pixels: int = 50 * MEGAPIXEL
    images: int = 16
    prompt: int | None = None
    new: int = 1024
    waiting: int = 32


@dataclass(frozen=True)
class Settings:
    """How pictures are pruned unless a request says otherwise, and whom to answer.

    `origins` are places that pictures may be fetched from; `api_key` is asked for where it is given; `grace` is how
    many seconds open requests get once the server is told to stop.
    """

    keep: int | float = 0.1
    method: str | Method = "foveate"
    positions: Positions = "original"
    limits: Limits = Limits()
    origins: tuple[str, ...] = ()
    api_key: str | None = None
    grace: float = 30.0
