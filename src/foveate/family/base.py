"""The conventions that most vision-language models of transformers share; a family file holds only what differs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError, ModelError, UnknownFamilyError
from foveate.question import Template, default_template
from foveate.registry import FAMILIES
from foveate.rewrite import count_positions

Inputs = Mapping[str, Any]
Grid = tuple[int, int, int]
Mixes = Sequence[Tensor | None]


class Family:
    """How one family of models turns pictures into tokens and numbers their positions.

    The defaults hold for a model that joins text and image in one sequence: `base_model.get_image_features(...)` makes
    the features, `config.image_token_id` marks their places, and positions count the tokens that are not padding.
    """

    summary: ClassVar[str] = ""
    """One line: the models this covers and how they number positions."""

    # -- encoding ---------------------------------------------------------------------------------------------------

    def encoder_inputs(self, model: Any, inputs: Inputs) -> dict[str, Any]:
        """The inputs that only the vision encoder reads; the shortened inputs go without them."""
        names = inspect.signature(model.base_model.get_image_features).parameters
        return {name: inputs[name] for name in names if inputs.get(name) is not None}

    def encode(self, model: Any, inputs: Inputs) -> Any:
        """Run the stock vision tower and projector (or take the features that the caller already has)."""
        ready = inputs.get("mm_encoder_outputs") or {}
        if ready.get("image") is not None:
            if inputs.get("pixel_values") is not None:
                raise InputError("Give either pixel_values or mm_encoder_outputs, not both.")
            return ready["image"]
        return model.base_model.get_image_features(**self.encoder_inputs(model, inputs), return_dict=True)

    def extras(self, config: Any) -> frozenset[str]:
        """The extras of `VisualTokens` that a model of this configuration can give (`encode_with` gives them)."""
        return frozenset()

    def encode_with(self, model: Any, inputs: Inputs, needs: frozenset[str]) -> tuple[Any, list[dict[str, Tensor]]]:
        """`encode`, and the extras named in `needs` (some of `extras(config)`) of every image, without gradients."""
        encoded = self.encode(model, inputs)
        return encoded, [{} for _ in self.features(encoded)]

    def features(self, encoded: Any) -> list[Tensor]:
        """The visual tokens of every image, (n, d) each, in the language model's space."""
        return list(encoded.pooler_output)

    def keep(self, encoded: Any, kept: Sequence[Tensor], rows: Sequence[int], mixes: Mixes = ()) -> Any:
        """A new encoder output that holds only the kept tokens; `rows` says in which row of the batch an image is.

        `mixes` are what `Method.mix` gave for each image; none at all means that every token holds its own value.
        """
        return type(encoded)(pooler_output=keep_tokens(encoded.pooler_output, kept, rows, mixes))

    # -- the sequence -----------------------------------------------------------------------------------------------

    def image_token_id(self, config: Any) -> int:
        """The id of the placeholder that one visual token replaces."""
        return int(config.image_token_id)

    def grids(self, config: Any, inputs: Inputs, features: Sequence[Tensor]) -> list[Grid | None]:
        """(t, h, w) of every image's tokens in raster order; None where there is no such raster."""
        sides = [math.isqrt(len(f)) for f in features]
        return [(1, s, s) if s * s == len(f) else None for s, f in zip(sides, features, strict=True)]

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """Position ids of the unpruned sequence, (b, L), as `generate` would number them."""
        return count_positions(mask)

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """Which ids frame the user's words."""
        return default_template(config, stop_ids)

    # -- the decoder ------------------------------------------------------------------------------------------------

    def decoder(self, model: Any) -> Any:
        """The language model whose `layers` an in-decoder method puts its hooks on."""
        return model.base_model.language_model

    def whole_layers(self, config: Any) -> int:
        """After how many of the first layers the language model itself still adds to the picture's places."""
        return 0

    # -- a small instance of itself ---------------------------------------------------------------------------------

    def tiny_config(self) -> Any:
        """The configuration of a tiny model with all of the family's traits, for the laws."""
        raise NotImplementedError

    def example_images(self, config: Any, count: int, generator: torch.Generator) -> tuple[dict[str, Any], list[int]]:
        """Noise in the shape of `count` pictures: the encoder's inputs, and how many tokens each picture becomes."""
        raise NotImplementedError

    def pick_images(self, inputs: Inputs, pictures: range) -> dict[str, Any]:
        """The encoder's inputs for some of the pictures of a batch."""
        return {"pixel_values": inputs["pixel_values"][pictures.start : pictures.stop]}

    def image_span(self, config: Any, tokens: int) -> list[int]:
        """The ids that stand for one picture in a prompt."""
        return [self.image_token_id(config)] * tokens


def keep_tokens(
    features: Sequence[Tensor], kept: Sequence[Tensor], rows: Sequence[int], mixes: Mixes = ()
) -> list[Tensor]:
    """The kept tokens of every image, (k, d), those of one row of the batch joined.

    Beam search repeats these entry by entry. Where a row has several, older transformers (5.18) gets their order wrong.
    """
    joined: dict[int, list[Tensor]] = {}
    for feature, indices, row, mix in zip(features, kept, rows, mixes or [None] * len(kept), strict=True):
        values = feature[indices.to(feature.device)] if mix is None else mixed(feature, mix)
        joined.setdefault(row, []).append(values)
    return [torch.cat(parts) for parts in joined.values()]


def mixed(feature: Tensor, mix: Tensor) -> Tensor:
    """The weighted means `mix @ feature`, (k, n) @ (n, d), computed in float32."""
    with torch.autocast(feature.device.type, enabled=False):
        return (mix.to(feature.device) @ feature.float()).to(feature.dtype)


@dataclass(frozen=True)
class FamilyInfo:
    """A row of `foveate.families()`: the `config.model_type` and what the family covers."""

    model_type: str
    summary: str


def families() -> list[FamilyInfo]:
    """The supported model families, one row a `config.model_type`."""
    return [FamilyInfo(name, FAMILIES.load(name).summary) for name in FAMILIES.names()]


def family_of(model: Any) -> Family:
    """The family of a model, by its `config.model_type`.

    Raises `UnknownFamilyError` with what to do if there is none, `ModelError` if this is no transformers model.
    """
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    if model_type is None or not hasattr(model, "base_model"):
        raise ModelError(f"{type(model).__name__} is not a transformers model: load one with from_pretrained.")
    if model_type not in FAMILIES.names():
        raise UnknownFamilyError(
            f"Models of type {model_type!r} are not supported yet (supported: {', '.join(FAMILIES.names())}). "
            "To add one, write a foveate.family.Family and name it in the entry-point group foveate.families "
            "(CONTRIBUTING.md, 'Add a family')."
        )
    family = FAMILIES.load(model_type)()
    if not isinstance(family, Family):
        raise UnknownFamilyError(f"The plug-in for {model_type!r} is no foveate.family.Family: derive it from that.")
    return family
