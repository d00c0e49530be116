"""The turns of one prompt, whichever way they were recognised."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """One turn: columns `start` to `end` (exclusive), whether the user speaks, and the columns of its words."""

    start: int
    end: int
    is_user: bool
    words: list[int]


@dataclass(frozen=True)
class Dialog:
    """The turns of one row of ids.

    Args:
        turns: In the order of the prompt.
        doubt: In a sentence what makes them uncertain; "" where nothing does.
        is_whole: Whether no turn was recognised, and the whole prompt stands as one.
    """

    turns: Sequence[Turn]
    doubt: str = ""
    is_whole: bool = False

    def find_question(self, image: int | None = None) -> list[int]:
        """The words of the user's last turn; with the column of an image, of the first one that ends behind it."""
        user = [turn for turn in self.turns if turn.is_user and turn.words]
        behind = [turn for turn in user if image is not None and turn.end > image]
        return [*behind, *user[-1:]][0].words if user else []
