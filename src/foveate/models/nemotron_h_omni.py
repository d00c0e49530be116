"""Nemotron-H Omni: images of any size as merged patches, in a language model of Mamba-2, attention and experts."""

from dataclasses import replace
from typing import Any

from foveate.models.base import Family, Features, Grids, Inputs


class NemotronHOmni(Family):
    """Nemotron-H Omni; dynamic resolution, Mamba-2 and experts; audio passes through.

    Without positions of its own, the state of Mamba-2 runs over the kept tokens.

    Videos have the images' placeholders, so that the model takes either in one call; they are not pruned.
    """

    traits = replace(Family.traits, sequential_positions=True)

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """Two by two patches are one token."""
        sizes = inputs.get("image_grid_hw")
        return [None] * len(features) if sizes is None else [(1, h // 2, w // 2) for h, w in sizes.tolist()]

    def decoder(self, model: Any) -> Any:
        """Below the language model's own head."""
        return model.language_model.model
