"""A figure of several rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEW = 5  # rounds: quartiles of fewer lie between two of them


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def from_values(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        low, median, high = np.percentile(values, (25, 50, 75)).tolist()
        return cls(median, low, high)

    def format(self, scale: float = 1.0, digits: int = 1, unit: str = "") -> str:
        """`12.3 (12.1 to 12.9)`, in units of 1 / scale, with the unit behind the first and the last."""
        values = (round(scale * value, digits) + 0.0 for value in (self.median, self.low, self.high))  # no -0
        median, low, high = (f"{value:.{digits}f}" for value in values)
        return f"{median}{unit}" if low == median == high else f"{median}{unit} ({low} to {high}{unit})"

    def describe(self, rounds: int, scale: float = 1.0, digits: int = 1, unit: str = "") -> str:
        """`12% (11 to 13%)`, without the quartiles where they are of too few rounds."""
        own = self if rounds >= FEW else Spread(self.median, self.median, self.median)
        return own.format(scale, digits, unit)
