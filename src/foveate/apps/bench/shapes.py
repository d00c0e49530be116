"""Models in the shape of published ones, with random weights, on whose values time and memory do not depend."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from foveate.apps.bench import published
from foveate.apps.bench.memory import read_free_memory
from foveate.apps.bench.published import Size
from foveate.conformance.registry import to_tiny_family
from foveate.errors import InputError
from foveate.models import family_of

CPU_LAYERS = 4  # a run takes minutes on a few cores; 4 to 3 is also LLaVA's proportion of decoder to tower
MEMORY_SHARE = 0.6  # of free memory, for weights; the rest is for activations and caches
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WORDS = 40  # of the question
SPREAD = 0.03  # of the weights, which keeps activations finite in every type


@dataclass(frozen=True)
class Shape:
    """A published model's configuration. `depth` is the name of the layer count in its vision configuration.

    `size` (height, width) is the default image size. `make_pixels` makes the encoder's inputs for one image of a size,
    or raises `InputError` for the size. Between several tiles the prompt has the id `fence`, then one of the
    tile's own, where the model knows them.
    """

    model_type: str
    config: Mapping[str, Any]
    depth: str
    size: Size
    make_pixels: Callable[[Any, Size, torch.Generator], dict[str, Tensor]] = field(repr=False)
    fence: int | None = None

    def count_layers(self) -> tuple[int, int]:
        """Layers of the published model: of its decoder, of its vision tower."""
        return self.config["text_config"]["num_hidden_layers"], self.config["vision_config"][self.depth]

    def make_config(self, layers: int) -> Any:
        """The configuration with this number of decoder layers, and the same share of the vision tower."""
        from transformers import CONFIG_MAPPING

        own = copy.deepcopy(dict(self.config))
        whole, tower = self.count_layers()
        vision, depth = own["vision_config"], max(1, round(tower * layers / whole))
        own["text_config"]["num_hidden_layers"], vision[self.depth] = layers, depth
        attends_fully = vision.get("fullatt_block_indexes")
        if attends_fully:  # one after every run of windowed layers, in the same proportion
            count, stretch = round(len(attends_fully) * depth / tower), tower // len(attends_fully)
            vision["fullatt_block_indexes"] = [min(stretch * (n + 1), depth) - 1 for n in range(count)]
        if depth == 1 and "vision_feature_layer" in own:
            own["vision_feature_layer"] = -1  # there is no last but one
        return CONFIG_MAPPING[self.model_type](**own)


SHAPES = {
    "llava-1.5-7b": Shape("llava", published.LLAVA, "num_hidden_layers", (336, 336), published.make_square),
    "llava-next-7b": Shape("llava_next", published.LLAVA_NEXT, "num_hidden_layers", (672, 672), published.make_tiles),
    "internvl3-8b": Shape("internvl", published.INTERNVL, "num_hidden_layers", (1344, 1792), published.make_crops),
    "smolvlm-2.2b": Shape(
        "smolvlm", published.SMOLVLM, "num_hidden_layers", (1152, 1536), published.make_split, fence=49189
    ),
    "qwen2.5-vl-3b": Shape("qwen2_5_vl", published.QWEN, "depth", (672, 672), published.make_patches),
    "qwen2.5-vl-7b": Shape("qwen2_5_vl", published.QWEN_7B, "depth", (672, 672), published.make_patches),
}


def find_shape(name: str) -> tuple[str, Shape] | None:
    """The shape of this name ("llava-1.5-7b" or "llava-1.5-7b shape"), None for other names.

    Raises `InputError` for an unknown name that ends in "shape".
    """
    short = name.strip().lower()
    plain = short.removesuffix("shape").strip()
    if plain in SHAPES:
        return plain, SHAPES[plain]
    if plain != short:
        raise InputError(f"There is no shape {plain!r}: there are {', '.join(SHAPES)}.")
    return None


@dataclass(frozen=True)
class ShapeScale:
    """How much of the published model was built: layers of the decoder and of the vision tower."""

    layers: int
    layers_published: int
    vision_layers: int
    vision_layers_published: int

    @property
    def share(self) -> float:
        """Share of the decoder's layers."""
        return self.layers / self.layers_published

    @property
    def vision_share(self) -> float:
        """Share of the vision tower's layers."""
        return self.vision_layers / self.vision_layers_published

    def describe(self) -> str:
        """A note for the reader of the results."""
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
            f"{proportion}. Embeddings and head are complete, and weigh more than in the published model."
        )


def measure_scale(shape: Shape, config: Any) -> ShapeScale:
    """The scale of a configuration from `make_config`."""
    whole, tower = shape.count_layers()
    return ShapeScale(config.text_config.num_hidden_layers, whole, getattr(config.vision_config, shape.depth), tower)


def check_layers(shape: Shape, layers: int | None) -> None:
    """Raise `InputError` for more decoder layers than the published model has, or none."""
    whole, _ = shape.count_layers()
    if layers is not None and not 1 <= layers <= whole:
        raise InputError(f"--layers {layers}: give 1 to {whole}, which is what the published model has.")


def build(
    shape: Shape, layers: int | None = None, dtype: torch.dtype | None = None, device: str = "cpu"
) -> tuple[Any, ShapeScale]:
    """A model of this shape with random weights, in evaluation mode, and its scale.

    `layers` of the decoder (and the same share of the vision tower) default to as many as fit well, on a CPU to at most
    four; `dtype` to float32 on a CPU, else bfloat16.

    Raises `InputError` for more layers than the published model has, or than fit.
    """
    dtype = dtype or (torch.float32 if device == "cpu" else torch.bfloat16)
    check_layers(shape, layers)
    layers = _choose_layers(shape, layers, dtype, device)
    config = shape.make_config(layers)
    return build_random(config, dtype, device), measure_scale(shape, config)


def build_random(config: Any, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    """A model of this configuration with random weights, in evaluation mode."""
    from transformers import AutoModelForImageTextToText
    from transformers.initialization import no_init_weights

    config.foveate_template = {}  # its prompts are random words
    with torch.device(device), no_init_weights():
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    model.tie_weights()
    fill_weights(model)
    return model.eval()


def _choose_layers(shape: Shape, layers: int | None, dtype: torch.dtype, device: str) -> int:
    """The requested layers if they fit, else as many as fit."""
    whole, _ = shape.count_layers()
    one, two = (_count_parameters(shape.make_config(n)) for n in (1, whole))
    base, each = (one * dtype.itemsize, (two - one) / (whole - 1) * dtype.itemsize)
    free = read_free_memory(device)
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


def _count_parameters(config: Any) -> int:
    """Parameters of a model of this configuration, without building it."""
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        return sum(p.numel() for p in AutoModelForImageTextToText.from_config(config).parameters())


@torch.no_grad()
def fill_weights(model: Any) -> None:
    """Small random matrices, norms of one, biases of zero: faster than an initialization for training."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.uniform_(-SPREAD, SPREAD)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)


@torch.no_grad()
def make_example(model: Any, shape: Shape, size: Size, batch: int = 1, words: int = WORDS) -> dict[str, Tensor]:
    """A batch of prompts as a processor would make it: an image of noise of this size, then `words` random words.

    Raises `InputError` for a size that the model does not read.
    """
    family, generator = family_of(model), torch.Generator().manual_seed(0)
    rows = [shape.make_pixels(model.config, size, generator) for _ in range(batch)]
    inputs = {name: torch.cat([row[name] for row in rows]).to(model.device) for name in rows[0]}
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    image_ids = _make_image_ids(model, shape, {name: value[: len(rows[0][name])] for name, value in inputs.items()})
    text = torch.randint(10, 30000, (batch, words + 1), generator=generator)
    ids = torch.cat([text[:, :1], torch.tensor([image_ids] * batch), text[:, 1:]], 1)
    inputs["input_ids"] = ids.to(model.device)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if hasattr(model.base_model, "get_rope_index"):
        inputs["mm_token_type_ids"] = family.token_types(model.config, inputs)
    return inputs


def _make_image_ids(model: Any, shape: Shape, image: dict[str, Tensor]) -> list[int]:
    """The ids of one image in a prompt, after running its encoder to count them."""
    family = family_of(model)
    tokens = family.features(family.encode(model, image))
    if len(tokens) > 1:  # tiles
        spot = family.token_id(model.config, "image")
        if shape.fence is None:
            return [spot] * sum(map(len, tokens))
        marked = [[shape.fence, shape.fence - 1 - n, *[spot] * len(part)] for n, part in enumerate(tokens)]
        return [*chain(*marked), shape.fence]
    grids = family.grids(model.config, image, tokens)
    return to_tiny_family(family).prompt_ids(model.config, "image", len(tokens[0]), grids[0])
