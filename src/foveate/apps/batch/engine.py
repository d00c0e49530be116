"""What answers: pictures and questions in, replies out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from foveate.apps.batch.settings import Settings
from foveate.errors import FoveateError, ModelError


@dataclass(frozen=True)
class Reply:
    """An answer, and how many visual tokens the model saw of how many (None: the engine does not say)."""

    answer: str
    kept: int | None
    total: int | None


class Engine(Protocol):
    """A model that is ready."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know of it, in sentences."""

    def answer(self, pictures: Sequence[Image.Image], questions: Sequence[str]) -> list[Reply]:
        """Greedy answers, one a picture and question. Any error is about these rows, or the engine is broken."""


def open_engine(settings: Settings) -> Engine:
    """The engine, its model loaded and asked once.

    Raises a `FoveateError` if the model cannot be loaded, or the settings cannot be used on it.
    """
    from foveate.apps.batch.hf import HfEngine

    try:
        if settings.engine == "vllm":
            from foveate.apps.batch.vllm import VllmEngine

            return VllmEngine(settings)
        return HfEngine(settings)
    except FoveateError:
        raise
    except Exception as error:  # engines fail in words of their own
        raise ModelError(f"{settings.model} cannot be used with --engine {settings.engine}: {error!r}") from error


def probe(engine: Engine) -> None:
    """Ask something that any model can answer, so that an error is the engine's and no row's."""
    engine.answer([Image.new("RGB", (448, 448), "white")], ["What is this?"])
