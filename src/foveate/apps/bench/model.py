"""The model of a run: a published shape with random weights, or a checkpoint with its processor and a drawn image."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image

from foveate.apps.bench import shapes
from foveate.apps.bench.published import Size
from foveate.apps.bench.settings import format_size
from foveate.apps.bench.shapes import Shape, ShapeScale
from foveate.errors import InputError
from foveate.runtime.arguments import open_single_image
from foveate.runtime.conversation import make_inputs
from foveate.runtime.load import BUNDLED, load
from foveate.runtime.load_options import LoadOptions
from foveate.runtime.loaded import LoadedModel
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene

QUESTION = "what color is the star?"
SIDE = 672  # pixels of the image, for models that are not ours
SCENE = (0, 3)  # seed and number of things


class BenchModel(ABC):
    """A model, and inputs for it of any batch and image size.

    `size` is the default (height, width) of the image; `notes` are for the reader of the results.
    """

    model: Any
    name: str
    size: Size
    notes: tuple[str, ...]

    @abstractmethod
    def make_inputs(self, batch: int, size: Size) -> Mapping[str, Any]:
        """Rows of equal length, with one image each. Raises `InputError` for a size that cannot be used."""

    def to_record(self) -> dict[str, Any]:
        """The model as JSON."""
        dtype, device = str(self.model.dtype).removeprefix("torch."), self.model.device.type
        return {"name": self.name, "dtype": dtype, "device": device}


@dataclass(eq=False)
class ShapeModel(BenchModel):
    """A published model's shape, with random weights."""

    model: Any
    name: str
    shape: Shape
    scale: ShapeScale

    def __post_init__(self) -> None:
        self.size, self.notes = self.shape.size, (self.scale.describe(),)

    def make_inputs(self, batch: int, size: Size) -> Mapping[str, Any]:
        """Noise and random words."""
        return shapes.make_example(self.model, self.shape, size, batch)

    def to_record(self) -> dict[str, Any]:
        """With the scale."""
        scale = {**asdict(self.scale), "share": self.scale.share, "vision_share": self.scale.vision_share}
        return {**super().to_record(), "scale": scale}


@dataclass(eq=False)
class CheckpointModel(BenchModel):
    """A model with its processor, an image and a question: by default a drawn scene and a plain question."""

    loaded: LoadedModel
    own_image: Image.Image | None = None
    question: str = QUESTION

    def __post_init__(self) -> None:
        self.model, self.name, self.notes = self.loaded.model, self.loaded.name, self.loaded.notes
        self.image = self.own_image or draw_scene(sample_scene(*SCENE))
        keeps_size = self.own_image is not None or self.name in BUNDLED
        self.size = (self.image.height, self.image.width) if keeps_size else (SIDE, SIDE)

    def make_inputs(self, batch: int, size: Size) -> Mapping[str, Any]:
        """The same prompt in every row; a size that makes no difference is an error."""
        inputs: Mapping[str, Any] = self._process(size, batch)
        if size != self.size and tuple(inputs["pixel_values"].shape[-2:]) != size:
            sizes = [size, (size[0] * 2, size[1] * 2), (max(1, size[0] // 2), max(1, size[1] // 2))]
            own, double, half = (_get_shapes(self._process(each)) for each in sizes)
            if own == double == half:
                raise InputError(
                    f"The processor of {self.name} makes the same of an image of {format_size(size)} as of smaller and "
                    "larger ones: leave --image-size out, or give sizes that this model can distinguish."
                )
        return inputs

    def _process(self, size: Size, batch: int = 1) -> Any:
        return make_inputs(self.loaded, [self.image.resize((size[1], size[0]))] * batch, [self.question] * batch)


def open_model(
    name: str, *, layers: int | None = None, loading: LoadOptions | None = None, image: str | None = None,
    question: str | None = None, fetch: bool | None = None,
) -> BenchModel:  # fmt: skip
    """Build a shape by its name, or load a model as `load` does, to measure it on this image and question.

    Raises `InputError` for a setting that is not for this model, and what `load` and `shapes.build` raise.
    """
    loading = loading or LoadOptions()
    match = check_options(name, layers, loading)
    if match is None:
        own = None if image is None else open_single_image("--image", image, fetch=bool(fetch))
        return CheckpointModel(load(name, **vars(loading)), own, question or QUESTION)
    for option, value in (("--image", image), ("--question", question)):
        if value is not None:
            raise InputError(f"{option} is for checkpoints; {match[0]} has random weights: leave it out.")
    shape_name, shape = match
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, scale = shapes.build(shape, layers, None if loading.dtype is None else shapes.DTYPES[loading.dtype], device)
    return ShapeModel(model, shape_name, shape, scale)


def check_options(name: str, layers: int | None, loading: LoadOptions) -> tuple[str, Shape] | None:
    """The shape of this name, None for other models. Raises `InputError` for a setting that is not for it."""
    match, names = shapes.find_shape(name), ", ".join(shapes.SHAPES)
    if match is None:
        if layers is not None:
            raise InputError(f"--layers is for shapes with random weights ({names}): leave it out.")
        return None
    if loading.dtype is not None and loading.dtype not in shapes.DTYPES:
        raise InputError(f"--dtype {loading.dtype!r} is unknown: give {', '.join(shapes.DTYPES)}.")
    others = [option for option in loading.to_record() if option != "dtype"]
    if others:
        raise InputError(f"{others[0]} is for checkpoints; {match[0]} has random weights: leave it out.")
    shapes.check_layers(match[1], layers)
    return match


def _get_shapes(inputs: Mapping[str, Any]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in inputs.items() if isinstance(value, torch.Tensor)}
