"""The events that the demo sends to its page, and what an answer costs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

AnswerKind = Literal["pruned", "compared", "unpruned"]


@dataclass(frozen=True)
class AnswerCost:
    """Cost of one answer: visual tokens and all tokens read, seconds of the stages, bytes of the KV cache, new tokens.

    `first_token` is `encode + select + prefill`; `seconds` runs to the last new token.
    """

    visual_tokens: int
    tokens: int
    encode: float
    select: float
    prefill: float
    first_token: float
    seconds: float
    kv_bytes: int
    new: int


@dataclass(frozen=True)
class KeptTokens:
    """What the question keeps for one of the answers. `overlay` is a data URL; `map` is one of the relevance, or of the
    method's own score where it is not `prompt_aware`; None without one.

    `core` and `complement` are counts, None if nothing was dropped, or if the method scores no token; `tokens` is the
    length of the prompt. `look` is the overlay of a first look at `looked` tokens, None without one. `reason` says why
    a policy keeps so many. `tiles` are those that were encoded and all of them, None where all were.
    """

    type: ClassVar[str] = "look"
    overlay: str | None
    kept: int
    total: int
    core: int | None
    complement: int | None
    map: str | None
    tokens: int
    method: str
    notes: list[str]
    look: str | None = None
    looked: int | None = None
    reason: str | None = None
    tiles: tuple[int, int] | None = None
    prompt_aware: bool = True
    answer: AnswerKind = "pruned"


@dataclass(frozen=True)
class ClipFrames:
    """The frames of a clip that are asked about: all of them as the data URL of one image, and their seconds."""

    type: ClassVar[str] = "frames"
    sheet: str
    times: tuple[float, ...]


@dataclass(frozen=True)
class AnswerPiece:
    """A piece of an answer."""

    type: ClassVar[str] = "piece"
    answer: AnswerKind
    text: str


@dataclass(frozen=True)
class AnswerDone:
    """An answer is complete."""

    type: ClassVar[str] = "cost"
    answer: AnswerKind
    cost: AnswerCost
    reason: str


@dataclass(frozen=True)
class Savings:
    """All answers are complete: cost of the unpruned one over that of the pruned one."""

    type: ClassVar[str] = "saved"
    saved: dict[str, float]

    @classmethod
    def between(cls, pruned: AnswerCost, unpruned: AnswerCost) -> Savings:
        """Ratios by the fields of `AnswerCost`, without those where a cost is 0."""
        small, large = asdict(pruned), asdict(unpruned)
        return cls({name: large[name] / small[name] for name in small if name != "new" and small[name] and large[name]})


@dataclass(frozen=True)
class DemoFailure:
    """A failure after the response began."""

    type: ClassVar[str] = "error"
    error: str


DemoEvent = KeptTokens | ClipFrames | AnswerPiece | AnswerDone | Savings | DemoFailure


def to_json(event: DemoEvent) -> str:
    """The event as a JSON object."""
    return json.dumps({"type": event.type, **asdict(event)})
