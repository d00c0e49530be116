"""The interface of an engine: images and questions in, replies out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image


@dataclass(frozen=True)
class BatchReply:
    """An answer, and how many of how many visual tokens the model read (None: the engine does not report it).

    `reason` says why a policy chose so many, `encoded` which share of the image was encoded.
    """

    answer: str
    kept: int | None
    total: int | None
    reason: str | None = None
    encoded: float | None = None


class BatchEngine(Protocol):
    """A loaded model."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences that the user should read."""

    def answer(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[BatchReply]:
        """Greedy answers, one for each image and question. Any error is about these rows, or the engine is broken."""


def make_probe() -> tuple[list[Image.Image], list[str]]:
    """What any model can answer: if an engine fails on this, the fault is the engine's and not a row's."""
    # Not of one color: some families recognize the tiles of an image by what they show.
    return [Image.radial_gradient("L").resize((448, 448)).convert("RGB")], ["What is this?"]
