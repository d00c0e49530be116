"""The settings of a server."""

from dataclasses import dataclass

from foveate.method import Method
from foveate.pipeline.settings import Positions

MIB = 2**20
MEGAPIXEL = 10**6


@dataclass(frozen=True)
class ServeLimits:
    """Upper bounds for one request and for the queue.

    Args:
        body: Bytes of a request body, and of an image that the server fetches.
        pixels: Pixels of all images of a request together.
        images: Number of images in a conversation.
        prompt: Tokens of a prompt before pruning; None is no limit.
        new: New tokens of an answer.
        waiting: Length of the queue, without the running request.
    """

    body: int = 20 * MIB
    pixels: int = 50 * MEGAPIXEL
    images: int = 16
    prompt: int | None = None
    new: int = 1024
    waiting: int = 32


@dataclass(frozen=True)
class ServeSettings:
    """Defaults of pruning, limits, and access.

    Args:
        keep: Budget of a request that sets none: tokens per image, or a share of them.
        method: Pruning method of a request that sets none.
        positions: Position ids of a request that sets none.
        limits: Upper bounds.
        origins: Origins such as "https://host" from which images may be fetched.
        api_key: Key that every request must send; None for no key.
        grace: Seconds that open requests get to finish at shutdown.
    """

    keep: int | float = 0.1
    method: str | Method = "foveate"
    positions: Positions = "original"
    limits: ServeLimits = ServeLimits()
    origins: tuple[str, ...] = ()
    api_key: str | None = None
    grace: float = 30.0
