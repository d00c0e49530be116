"""What a call of `prune_inputs` returns: the shorter inputs and a report on what was kept."""

from __future__ import annotations

import warnings
from collections import UserDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from foveate.errors import InputError, describe
from foveate.models.sequence import Layout
from foveate.models.visual_input import VisualInput
from foveate.pipeline.shown import write_html, write_png

# The parallel tuples of foveate 0.1, and the field of an item that replaces each.
RENAMED = {
    "kept": "kept", "total": "total", "grids": "grid", "modalities": "modality", "rows": "row",
    "relevance": "relevance", "core": "core", "views": "tiles",
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What was kept of every image, video and audio of a batch.

    Args:
        items: One record for each image, then for each video, then for each audio.
        method: Name of the method.
        seconds: Time to select tokens and to shorten the inputs, without the encoder.
        notes: What the caller should know, in sentences.
        glance_seconds: What a first look took of `seconds`; 0 without one.
        prompt_aware: Whether the method reads the question.
    """

    items: tuple[VisualInput, ...]
    method: str
    seconds: float
    notes: tuple[str, ...] = ()
    glance_seconds: float = 0.0
    prompt_aware: bool = True

    @property
    def kept_count(self) -> int:
        """Number of kept visual tokens, all items together."""
        return sum(len(item.kept) for item in self.items)

    @property
    def total_count(self) -> int:
        """Number of visual tokens before pruning, all items together."""
        return sum(item.total for item in self.items)

    @property
    def tile_counts(self) -> tuple[int, int] | None:
        """How many of how many tiles of all images were encoded; None where `encode` left none out."""
        marks = [mark for item in self.items for mark in item.encoded]
        return (sum(marks), len(marks)) if marks else None

    def __str__(self) -> str:
        """What was kept and encoded, in one line."""
        tiles = "" if self.tile_counts is None else ", {} of {} parts encoded".format(*self.tile_counts)
        return f"{self.method}: {self.kept_count} of {self.total_count} visual tokens kept{tiles}"

    def __repr__(self) -> str:
        """The line of `str`: the tensors of a report are long."""
        return f"<{type(self).__name__} {self}>"

    def _repr_png_(self) -> bytes | None:
        """The kept cells of every image, for notebooks; `foveate.draw` shows them over the images."""
        return write_png(self.items)

    def _repr_html_(self) -> str:
        """The kept cells, three numbers and the notes, for notebooks."""
        share = f"{self.kept_count / self.total_count:.1%}" if self.total_count else "none"
        numbers = (
            (f"{self.kept_count} of {self.total_count}", "visual tokens kept"), (share, "of them"),
            (f"{1000 * self.seconds:.1f} ms", "to select and shorten"),
        )  # fmt: skip
        return write_html(str(self), numbers, self.notes, write_png(self.items))

    def by_row(self) -> dict[int, tuple[VisualInput, ...]]:
        """The items of each row of the batch that has some."""
        return _group(self.items, lambda item: item.row)

    def by_image(self) -> dict[int, tuple[VisualInput, ...]]:
        """The items of each image of the batch, by its number in reading order; an `is_part` item is one of its own."""
        return _group([item for item in self.items if item.modality == "image"], lambda item: item.index)

    if not TYPE_CHECKING:  # old names work, but do not type-check

        def __getattr__(self, name: str) -> Any:
            if name not in RENAMED:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            text = f"report.{name} is deprecated: read {RENAMED[name]} of each of report.items."
            warnings.warn(text, DeprecationWarning, stacklevel=2)
            return tuple(getattr(item, RENAMED[name]) for item in self.items)


def _group(items: Sequence[VisualInput], read_key: Callable[[VisualInput], int]) -> dict[int, tuple[VisualInput, ...]]:
    groups: dict[int, tuple[VisualInput, ...]] = {}
    for item in items:
        groups[read_key(item)] = (*groups.get(read_key(item), ()), item)
    return groups


_REBUILT = Report((), "unknown", 0.0, ("These inputs were rebuilt from a mapping, without their report.",))


class PrunedInputs(UserDict[str, Any]):
    """Shorter inputs for `model(**inputs)` and `model.generate(**inputs)`, with a `report`.

    They behave as transformers' `BatchFeature`: values are attributes too, `to` moves them, `|` adds some, and
    trainers and accelerate's functions can move, copy and pickle them.

    Example:
        short = foveate.prune_inputs(model, inputs, keep=0.1).to("cuda", torch.bfloat16)
        model.generate(**short)
        short.report.items[0].kept
        short.input_ids.shape
    """

    report: Report
    layout: Layout | None

    def __init__(self, data: Mapping[str, Any], report: Report = _REBUILT, layout: Layout | None = None) -> None:
        """`layout` says which columns stayed; None where nothing was pruned.

        Code that moves a batch rebuilds it as `type(batch)({...})`. Then the report says that it was left behind.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"data is {describe(data)}: pass the inputs by their names.")
        super().__init__(data)
        self.report, self.layout = report, layout

    def __repr__(self) -> str:
        """The names, with the shapes of tensors, and what the report says."""
        names = (f"{name} {tuple(value.shape)}" if isinstance(value, Tensor) else name for name, value in self.items())
        return f"<{type(self).__name__} {', '.join(names)}; {self.report}>"

    def __getitem__(self, name: str) -> Any:
        """A call changes the encoder outputs that it receives (beams expand them): every unpacking gets a copy."""
        value = super().__getitem__(name)
        if name == "encoder_outputs" and isinstance(value, Mapping):
            return type(value)(**value)
        if name != "mm_encoder_outputs" or value is None:
            return value
        return {modality: None if output is None else type(output)(**output) for modality, output in value.items()}

    def __getattr__(self, name: str) -> Any:
        """The value of this name."""
        if name != "data" and name in self:  # `data` is not there while a copy is made
            return self[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __or__(self, other: Any) -> Any:
        """These inputs with others, which win; the report stays."""
        if not isinstance(other, Mapping):
            return NotImplemented
        return PrunedInputs({**self.data, **other}, self.report, self.layout)

    def __ror__(self, other: Any) -> Any:
        """Others with these inputs, which win; the report stays."""
        if not isinstance(other, Mapping):
            return NotImplemented
        return PrunedInputs({**other, **self.data}, self.report, self.layout)

    def to(
        self, device: torch.device | str | int | torch.dtype | None = None, dtype: torch.dtype | None = None,
        *, non_blocking: bool = False,
    ) -> PrunedInputs:  # fmt: skip
        """Move all tensors to a device and cast those of floating point to a data type.

        Args:
            device: A device, or a data type as in `Tensor.to`.
            dtype: A data type of floating point. Ids, masks and positions keep theirs.
            non_blocking: As in `Tensor.to`.

        Returns:
            These inputs themselves, as a `BatchFeature` does.

        Raises:
            InputError: The data type is not one of floating point.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype is not None and not dtype.is_floating_point:
            raise InputError(f"{dtype} is no data type of floating point: ids and masks keep theirs, so leave it out.")
        self.data = {name: _move(value, device, dtype, non_blocking) for name, value in self.data.items()}
        return self


def _move(value: Any, device: Any, dtype: torch.dtype | None, non_blocking: bool) -> Any:
    """The value with its tensors moved, whatever holds them: encoder outputs are mappings of tuples."""
    if isinstance(value, Tensor):
        cast = dtype if value.is_floating_point() else None
        return value.to(device=device, dtype=cast, non_blocking=non_blocking)
    if isinstance(value, Mapping):
        return type(value)(**{name: _move(part, device, dtype, non_blocking) for name, part in value.items()})
    if isinstance(value, (list, tuple)):
        return type(value)(_move(part, device, dtype, non_blocking) for part in value)
    return value
