"""`Recency`: a budget for each image of a prompt by its age, the newest first."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.errors import InputError, KeepError, describe
from foveate.method.budget import to_fraction
from foveate.method.checks import is_int, is_number


@dataclass(frozen=True)
class Recency:
    """Shares of the tokens of a history of images, such as screenshots: the newest in detail, older ones less.

    The image that is `age` images older than the newest has the share `max(older, newest * fade**age)`. Each is pruned
    as with that share as its own `keep`: what the question names in an old image is what stays of it.

    Args:
        newest: The share of the last image of a prompt, in (0, 1]; 1.0 keeps it whole.
        older: The least share of the others, above 0 and at most `newest`.
        fade: What is left of the share from an image to the one before it, in [0, 1]; 0 for `older` at once.

    Raises:
        KeepError: A share is out of range.
        InputError: `fade` is out of range.

    Example:
        foveate.prune_inputs(model, inputs, keep=foveate.Recency(newest=1.0, older=0.1, fade=0.5))
    """

    newest: float = 1.0
    older: float = 0.1
    fade: float = 0.0

    def __post_init__(self) -> None:
        for name in ("newest", "older"):
            value = getattr(self, name)
            if not is_number(value) or is_int(value) or not 0 < value <= 1:
                raise KeepError(f"{name}={describe(value)} is no share of an image: use a float in (0, 1].")
        if self.older > self.newest:
            raise KeepError(f"older={self.older} is more than newest={self.newest}: give the newest image the most.")
        if not is_number(self.fade) or not 0 <= self.fade <= 1:
            raise InputError(f"fade={describe(self.fade)} is out of range: use a float in [0, 1], such as 0.5.")

    def shares(self, count: int) -> list[float]:
        """The share of each of `count` images, the oldest first.

        Example:
            >>> Recency(newest=1.0, older=0.2, fade=0.5).shares(4)
            [0.2, 0.25, 0.5, 1.0]
        """
        share, least, fade = to_fraction(self.newest), to_fraction(self.older), to_fraction(self.fade)
        shares: list[float] = []
        for _ in range(count):
            shares.append(float(max(share, least)))
            share = share * fade if share > least else least
        return shares[::-1]
