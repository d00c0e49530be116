"""Which of a model's handles prunes."""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Protocol

from foveate.hooks.drawn import Draws
from foveate.pipeline.report import Report
from foveate.pipeline.settings import PruneSettings


class PruningHandle(Protocol):
    """What the chain needs of a handle."""

    settings: PruneSettings
    draws: Draws | None
    report: Report | None


# The handles that this context (a thread, a task) attached, the newest one last.
OWN: ContextVar[tuple[PruningHandle, ...]] = ContextVar("foveate_handles", default=())


def find_newest(attached: Sequence[PruningHandle]) -> PruningHandle:
    """Of the attached handles the newest one of this context, or if it has none, the newest of all."""
    handles = list(attached)
    return next((handle for handle in reversed(OWN.get()) if handle in handles), handles[-1])
