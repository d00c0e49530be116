"""Models in the shape of published ones, with random weights: time and memory do not depend on what weights hold."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from foveate.apps.bench import published
from foveate.apps.bench.memory import available
from foveate.apps.bench.published import Size
from foveate.conformance.registry import tiny_family
from foveate.errors import InputError
from foveate.models import Family, family_of

CPU_LAYERS = 4  # a run of minutes on a few cores; 4 to 3 is also LLaVA's own proportion of decoder to tower
MEMORY_SHARE = 0.6  # of what is free, for weights; activations and caches take the rest
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WORDS = 40  # of the question
SPREAD = 0.03  # of the weights, which keeps activations finite in every type


@dataclass(frozen=True)
class Shape:
    """A published model's configuration: `depth` is what its tower calls its number of layers.

    `size` (height, width) is the picture it is measured on unless told otherwise, and `pixels` makes the encoder's
    inputs of one picture of some size, or refuses the size.
    """

    model_type: str
    config: Mapping[str, Any]
    depth: str
    size: Size
    pixels: Callable[[Any, Size, torch.Generator], dict[str, Tensor]] = field(repr=False)

    def layers(self) -> tuple[int, int]:
        """How many the published model has: of its decoder, of its vision tower."""
        return self.config["text_config"]["num_hidden_layers"], self.config["vision_config"][self.depth]

    def scaled(self, layers: int) -> Any:
        """The configuration with so many decoder layers, and the same share of the vision tower."""
        from transformers import CONFIG_MAPPING

        own = copy.deepcopy(dict(self.config))
        whole, tower = self.layers()
        vision, depth = own["vision_config"], max(1, round(tower * layers / whole))
        own["text_config"]["num_hidden_layers"], vision[self.depth] = layers, depth
        attends_fully = vision.get("fullatt_block_indexes")
        if attends_fully:  # the last of every stretch of windowed layers, as many as the share has
            count, stretch = round(len(attends_fully) * depth / tower), tower // len(attends_fully)
            vision["fullatt_block_indexes"] = [min(stretch * (n + 1), depth) - 1 for n in range(count)]
        if depth == 1 and "vision_feature_layer" in own:
            own["vision_feature_layer"] = -1  # the last but one would be none
        return CONFIG_MAPPING[self.model_type](**own)


SHAPES = {
    "llava-1.5-7b": Shape("llava", published.LLAVA, "num_hidden_layers", (336, 336), published.square),
    "llava-next-7b": Shape("llava_next", published.LLAVA_NEXT, "num_hidden_layers", (672, 672), published.tiles),
    "qwen2.5-vl-3b": Shape("qwen2_5_vl", published.QWEN, "depth", (672, 672), published.patches),
}


def find_shape(name: str) -> tuple[str, Shape] | None:
    """The shape of this name ("llava-1.5-7b", or with " shape" after it); None where a name is no shape's.

    Raises `InputError` for a name that says it is a shape and is not.
    """
    short = name.strip().lower()
    plain = short.removesuffix("shape").strip()
    if plain in SHAPES:
        return plain, SHAPES[plain]
    if plain != short:
        raise InputError(f"There is no shape {plain!r}: there are {', '.join(SHAPES)}.")
    return None


@dataclass(frozen=True)
class Scale:
    """How much of the published model was built: layers of decoder and tower, of how many, and the decoder's share."""

    layers: int
    layers_published: int
    vision_layers: int
    vision_layers_published: int

    @property
    def share(self) -> float:
        """Of the decoder's layers."""
        return self.layers / self.layers_published

    @property
    def vision_share(self) -> float:
        """Of the vision tower's layers."""
        return self.vision_layers / self.vision_layers_published

    def note(self) -> str:
        """What a reader of the figures should know."""
        if self.layers == self.layers_published:
            return "Random weights, all layers of the published model."
        tower = self.vision_share / self.share
        exact = self.layers_published // math.gcd(self.layers_published, self.vision_layers_published)
        proportion = (
            "which keeps their proportion"
            if tower == 1
            else f"so that the tower weighs {tower:.2f} times as much as it should (multiples of {exact} are exact)"
        )
        return (
            f"Random weights; {self.layers} of {self.layers_published} decoder layers ({self.share:.1%}) and "
            f"{self.vision_layers} of {self.vision_layers_published} of the vision tower ({self.vision_share:.1%}), "
            f"{proportion}. Embeddings and head are whole, and weigh more than in the published model."
        )


def scale_of(shape: Shape, config: Any) -> Scale:
    """Of a configuration that `scaled` made."""
    whole, tower = shape.layers()
    return Scale(config.text_config.num_hidden_layers, whole, getattr(config.vision_config, shape.depth), tower)


def check_layers(shape: Shape, layers: int | None) -> None:
    """Raise `InputError` for more decoder layers than the published model has, or none."""
    whole, _ = shape.layers()
    if layers is not None and not 1 <= layers <= whole:
        raise InputError(f"--layers {layers}: give 1 to {whole}, which is what the published model has.")


def build(
    shape: Shape, layers: int | None = None, dtype: torch.dtype | None = None, device: str = "cpu"
) -> tuple[Any, Scale]:
    """A model of this shape with random weights, in evaluation mode, and how much of the published one it is.

    `layers` of the decoder (and the same share of the vision tower) default to as many as fit comfortably, on a CPU to
    at most four; `dtype` to float32 on a CPU, else bfloat16.

    Raises `InputError` for more layers than the published model has, or than fit.
    """
    from transformers import AutoModelForImageTextToText
    from transformers.initialization import no_init_weights

    dtype = dtype or (torch.float32 if device == "cpu" else torch.bfloat16)
    check_layers(shape, layers)
    layers = _fitting(shape, layers, dtype, device)
    config = shape.scaled(layers)
    with torch.device(device), no_init_weights():
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    model.tie_weights()
    _fill(model)
    return model.eval(), scale_of(shape, config)


def _fitting(shape: Shape, layers: int | None, dtype: torch.dtype, device: str) -> int:
    """How many layers to build: those asked for, if they fit, else as many as do."""
    whole, _ = shape.layers()
    one, two = (_count(shape.scaled(n)) for n in (1, whole))
    base, each = (one * dtype.itemsize, (two - one) / (whole - 1) * dtype.itemsize)
    free = available(device)
    fit = whole if free is None else int((MEMORY_SHARE * free - base) // each) + 1
    if fit < (layers or 1):
        raise InputError(
            f"{layers or 1} layers of this shape take {(base + each * ((layers or 1) - 1)) / 2**30:.1f} GiB of weights "
            f"and {(free or 0) / 2**30:.1f} GiB are free: give --layers {fit} or --dtype bfloat16."
            if fit >= 1
            else f"Not even one layer of this shape fits into the {(free or 0) / 2**30:.1f} GiB that are free: "
            "free some, or bench a smaller model."
        )
    return layers or min(fit, whole, CPU_LAYERS if device == "cpu" else whole)


def _count(config: Any) -> int:
    """Parameters of a model of this configuration, which is not built."""
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        return sum(p.numel() for p in AutoModelForImageTextToText.from_config(config).parameters())


@torch.no_grad()
def _fill(model: Any) -> None:
    """Small random matrices, norms of one, biases of zero: quicker than an initialization meant for training."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.uniform_(-SPREAD, SPREAD)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)


@torch.no_grad()
def example(model: Any, shape: Shape, size: Size, batch: int = 1, words: int = WORDS) -> dict[str, Tensor]:
    """A batch of prompts as a processor would give them: a picture of noise of this size, then `words` random words.

    Raises `InputError` for a size that the model cannot be given.
    """
    family, config, generator = family_of(model), model.config, torch.Generator().manual_seed(0)
    rows = [shape.pixels(config, size, generator) for _ in range(batch)]
    inputs = {name: torch.cat([row[name] for row in rows]).to(model.device) for name in rows[0]}
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    picture = _span(model, family, {name: value.to(model.device) for name, value in rows[0].items()})
    text = torch.randint(10, 30000, (batch, words + 1), generator=generator)
    ids = torch.cat([text[:, :1], torch.tensor([picture] * batch), text[:, 1:]], 1)
    inputs["input_ids"] = ids.to(model.device)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if hasattr(model.base_model, "get_rope_index"):
        inputs["mm_token_type_ids"] = family.token_types(config, inputs)
    return inputs


def _span(model: Any, family: Family, picture: dict[str, Tensor]) -> list[int]:
    """The ids that stand for the picture in a prompt; only its encoder knows how many."""
    own = {**picture, "pixel_values": picture["pixel_values"].to(model.dtype)}
    tokens = family.features(family.encode(model, own))
    grids = family.grids(model.config, own, tokens)
    return tiny_family(family).prompt_ids(model.config, "image", len(tokens[0]), grids[0])
