"""Which of a model's handles prunes."""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Generic, Protocol, TypeVar

from foveate.errors import InputError
from foveate.hooks.drawn import Draws
from foveate.pipeline.report import Report
from foveate.pipeline.settings import PruneSettings

AnyReport = TypeVar("AnyReport", bound=Report)


class PruningHandle(Protocol):
    """What the chain needs of a handle."""

    settings: PruneSettings
    draws: Draws | None
    last_report: Report | None


class ShownHandle(Generic[AnyReport]):
    """A handle with the report of the last call, as which it is shown in a notebook.

    `last_report` is None as long as no call was pruned.
    """

    last_report: AnyReport | None = None

    @property
    def report(self) -> AnyReport:
        """What was kept in the last call. Raises `InputError` as long as no call was pruned."""
        if self.last_report is None:
            raise InputError("No call was pruned yet, so there is no report: call the model with an image first.")
        return self.last_report

    def __repr__(self) -> str:
        """The last call in one line."""
        return f"<{type(self).__name__}: {'no call yet' if self.last_report is None else self.last_report}>"

    def _repr_html_(self) -> str | None:
        """The report of the last call."""
        return None if self.last_report is None else self.last_report._repr_html_()

    def _repr_png_(self) -> bytes | None:
        """The picture of the report of the last call."""
        return None if self.last_report is None else self.last_report._repr_png_()


# The handles that this context (a thread, a task) attached, the newest one last.
OWN: ContextVar[tuple[PruningHandle, ...]] = ContextVar("foveate_handles", default=())


def find_newest(attached: Sequence[PruningHandle]) -> PruningHandle:
    """Of the attached handles the newest one of this context, or if it has none, the newest of all."""
    handles = list(attached)
    return next((handle for handle in reversed(OWN.get()) if handle in handles), handles[-1])
