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


class ShownHandle:
    """How a handle looks in a notebook: as the report of the last call."""

    report: Report | None

    def __repr__(self) -> str:
        """The last call in one line."""
        return f"<{type(self).__name__}: {'no call yet' if self.report is None else self.report}>"

    def _repr_html_(self) -> str | None:
        """The report of the last call."""
        return None if self.report is None else self.report._repr_html_()

    def _repr_png_(self) -> bytes | None:
        """The picture of the report of the last call."""
        return None if self.report is None else self.report._repr_png_()


# The handles that this context (a thread, a task) attached, the newest one last.
OWN: ContextVar[tuple[PruningHandle, ...]] = ContextVar("foveate_handles", default=())


def find_newest(attached: Sequence[PruningHandle]) -> PruningHandle:
    """Of the attached handles the newest one of this context, or if it has none, the newest of all."""
    handles = list(attached)
    return next((handle for handle in reversed(OWN.get()) if handle in handles), handles[-1])
