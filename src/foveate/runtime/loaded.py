"""What `load` returns."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """What `load` returns: a model with its processor.

    It unpacks into the two: `model, processor = foveate.load(name)`.

    Attributes:
        model: The model, in evaluation mode, on its device.
        processor: The model's processor.
        notes: Sentences that a user should know, such as a package that is not installed.
        name: The name that `load` was called with.
    """

    model: Any
    processor: Any
    notes: tuple[str, ...]
    name: str

    def __iter__(self) -> Iterator[Any]:
        return iter((self.model, self.processor))
