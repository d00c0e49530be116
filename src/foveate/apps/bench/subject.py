"""What is measured: a shape with random weights, or a model with its own processor and a drawn picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from foveate.apps.bench import shapes
from foveate.apps.bench.published import Size
from foveate.apps.bench.settings import shown
from foveate.apps.bench.shapes import Scale, Shape
from foveate.errors import InputError
from foveate.runtime.conversation import make_inputs
from foveate.runtime.load import BUNDLED, LoadedModel, load
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene

QUESTION = "what color is the star?"
SIDE = 672  # of the picture for models of other people's
SCENE = (0, 3)  # seed and things


class Subject(ABC):
    """A model, and inputs for it of any batch and picture size.

    `size` is the picture it is measured on unless told otherwise; `notes` tell what the reader should know.
    """

    model: Any
    name: str
    size: Size
    notes: tuple[str, ...]

    @abstractmethod
    def inputs(self, batch: int, size: Size) -> Mapping[str, Any]:
        """A batch of prompts, each with one picture of this size. Raises `InputError` for a size it cannot be given."""

    def record(self) -> dict[str, Any]:
        """What the model is, as JSON would have it."""
        return {
            "name": self.name,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.model.device.type,
        }


@dataclass(eq=False)
class Shaped(Subject):
    """A published model's shape, with random weights."""

    model: Any
    name: str
    shape: Shape
    scale: Scale

    def __post_init__(self) -> None:
        self.size, self.notes = self.shape.size, (self.scale.note(),)

    def inputs(self, batch: int, size: Size) -> Mapping[str, Any]:
        """Noise and random words."""
        return shapes.example(self.model, self.shape, size, batch)

    def record(self) -> dict[str, Any]:
        """With how much of the published model was built."""
        return {
            **super().record(),
            "scale": {**asdict(self.scale), "share": self.scale.share, "vision_share": self.scale.vision_share},
        }


@dataclass(eq=False)
class Checkpoint(Subject):
    """A model with its processor, and a drawn scene with a plain question."""

    loaded: LoadedModel

    def __post_init__(self) -> None:
        self.model, self.name, self.notes = self.loaded.model, self.loaded.name, self.loaded.notes
        self.picture = draw_scene(sample_scene(*SCENE))
        self.size = (self.picture.height, self.picture.width) if self.name in BUNDLED else (SIDE, SIDE)

    def inputs(self, batch: int, size: Size) -> Mapping[str, Any]:
        """The same prompt in every row; a size that changes nothing is refused."""
        one = self._one(size)
        others = [] if size == self.size else [(size[0] * 2, size[1] * 2), (max(1, size[0] // 2), max(1, size[1] // 2))]
        own = tuple(one["pixel_values"].shape[-2:]) == size
        if others and not own and all(_shapes(self._one(other)) == _shapes(one) for other in others):
            raise InputError(
                f"The processor of {self.name} makes the same of a picture of {shown(size)} as of smaller and larger "
                "ones: leave --image-size out, or give sizes that this model tells apart."
            )
        return {name: _repeated(value, batch) for name, value in one.items()}

    def _one(self, size: Size) -> Mapping[str, Any]:
        found: Mapping[str, Any] = make_inputs(self.loaded, [self.picture.resize((size[1], size[0]))], [QUESTION])
        return found


def open_subject(name: str, *, layers: int | None = None, dtype: str | None = None) -> Subject:
    """A shape by its name, else a model as `load` finds it.

    Raises `InputError` for a setting that is not for this model, and what `load` and `shapes.build` raise.
    """
    found = find(name, layers, dtype)
    if found is None:
        return Checkpoint(load(name))
    plain, shape = found
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, scale = shapes.build(shape, layers, None if dtype is None else shapes.DTYPES[dtype], device)
    return Shaped(model, plain, shape, scale)


def find(name: str, layers: int | None, dtype: str | None) -> tuple[str, Shape] | None:
    """A shape by its name, None for a model. Raises `InputError` for a setting that is not for it."""
    if dtype is not None and dtype not in shapes.DTYPES:
        raise InputError(f"--dtype {dtype!r} is unknown: give {', '.join(shapes.DTYPES)}.")
    found = shapes.find_shape(name)
    if found is None:
        for option, value in (("--layers", layers), ("--dtype", dtype)):
            if value is not None:
                raise InputError(
                    f"{option} is for shapes with random weights ({', '.join(shapes.SHAPES)}): leave it out."
                )
        return None
    shapes.check_layers(found[1], layers)
    return found


def _shapes(inputs: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in inputs.items() if isinstance(value, Tensor)}


def _repeated(value: Any, batch: int) -> Any:
    """Processors join what belongs to the pictures and rows of a batch along the first axis."""
    if isinstance(value, Tensor):
        return torch.cat([value] * batch)
    return value * batch if isinstance(value, list) else value
