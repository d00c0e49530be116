"""Chameleon, Emu3 and Apertus 1.5: images in words of the vocabulary, looked up and put in like features."""

from dataclasses import replace
from typing import Any

import torch

from foveate.models.base import Family, Features, Grids, Inputs, Masks
from foveate.models.visual_input import Tiles, VisualInput, tile_rows


class Chameleon(Family):
    """Chameleon; images in words of the vocabulary."""

    def decoder(self, model: Any) -> Any:
        """The model itself holds the layers."""
        return model.base_model


class Emu3(Family):
    """Emu3; images of any size in words of the vocabulary, ends of rows stay."""

    # the ends of rows stand between the tokens
    traits = replace(Family.traits, raster=False)

    def protected(self, model: Any, inputs: Inputs, features: Features, modality: str = "image") -> Masks:
        """The ends of rows, recognized by their embedding."""
        word = torch.tensor(model.config.vocabulary_map["<|extra_200|>"], device=features[0].device)
        end = model.get_input_embeddings()(word)
        return [(f == end.to(f)).all(-1) for f in features]

    def find_tiles(self, config: Any, inputs: Inputs, item: VisualInput) -> Tiles:
        """The rows between the ends."""
        return tile_rows(item.protected)

    def decoder(self, model: Any) -> Any:
        """By its own name."""
        return model.base_model.text_model


class Apertus(Family):
    """Apertus 1.5; images of any size in words of the vocabulary, ends of rows stay; audio too."""

    traits = replace(
        Family.traits, modalities=("image", "audio"), main_inputs={**Family.traits.main_inputs, "audio": "input_values"}
    )

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """In squares of the quantizer's scale; audios have none."""
        sizes, side = inputs.get(f"{modality}_sizes"), config.vision_config.spatial_scale_factor
        return [None] * len(features) if sizes is None else [(1, h // side, w // side) for h, w in sizes.tolist()]
