"""The settings of a server."""

from dataclasses import dataclass, replace
from typing import Any

from foveate.apps.encoder import WHOLE, EncoderOptions
from foveate.method import Method
from foveate.models import family_of
from foveate.pipeline.follow import find_policy
from foveate.pipeline.parts import check_encoder
from foveate.pipeline.settings import Keep, Positions, check_settings

MIB = 2**20
MEGAPIXEL = 10**6


@dataclass(frozen=True)
class ServeLimits:
    """Upper bounds for one request and for the queue.

    `body` is in bytes, of a request or of a fetched image; `pixels` are those of all images of a request, and again of
    all frames; `images` are those of a conversation with its videos, `frames` those of one video (0: videos are
    refused); `prompt` tokens count before pruning (None: no limit), `new` are tokens of an answer;
    `waiting` is the length of the queue, without the running request; `cache` are bytes of encoded images that are kept
    for further requests.
    """

    body: int = 20 * MIB
    pixels: int = 50 * MEGAPIXEL
    images: int = 16
    frames: int = 0
    prompt: int | None = None
    new: int = 1024
    waiting: int = 32
    cache: int = 256 * MIB


@dataclass(frozen=True)
class ServeSettings:
    """Pruning settings of requests that set none, limits, and access.

    Images may be fetched from `origins` such as "https://host"; every request must send the `api_key`, if there is one;
    `allowed_hosts` are names of the server beside those that it listens on; open requests get `grace` seconds to
    finish at shutdown.
    """

    keep: Keep = 0.1
    method: str | Method = "foveate"
    positions: Positions = "original"
    encoder: EncoderOptions = WHOLE
    limits: ServeLimits = ServeLimits()
    origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    api_key: str | None = None
    grace: float = 30.0

    @property
    def pruning(self) -> dict[str, Any]:
        """The settings of `prune_inputs`."""
        return {"keep": self.keep, "method": self.method, "positions": self.positions, **vars(self.encoder)}

    def check(self, model: Any) -> "ServeSettings":
        """The settings with the policy that "auto" stands for. Raises a `FoveateError` if they do not fit the model."""
        checked = find_policy(model, check_settings(**self.pruning))
        check_encoder(family_of(model), checked)
        return self if checked.policy is None else replace(self, keep=checked.policy)
