"""Muse: images and videos of any size as patches that are merged after the tower, every fourth layer without RoPE."""

from dataclasses import replace
from typing import Any

import torch

from foveate.models.base import Features, Grids, Inputs
from foveate.models.patches import Patches


class MuseGlimmer(Patches):
    """Muse Glimmer; 1-D RoPE, dynamic resolution, local windows, a timestamp before every frame."""

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """The tower's own name for the merge."""
        thw = inputs.get(f"{modality}_grid_thw")
        if thw is None:
            return super().grids(config, inputs, features, modality)
        merge = config.vision_config.merge_size
        return [(t, h // merge, w // merge) for t, h, w in thw.tolist()]


class MuseSpark(MuseGlimmer):
    """Muse Spark, mixture of experts; as Muse Glimmer; audio too."""

    traits = replace(
        MuseGlimmer.traits,
        modalities=("image", "video", "audio"),
        main_inputs={**Patches.traits.main_inputs, "audio": "input_values"},
    )

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The tower gives all audios in one row."""
        encoded = super().encode(model, inputs, modality)
        if modality == "audio":
            mask, each = inputs.get("input_values_mask"), model.config.audio_config.samples_per_token
            samples = torch.ones_like(inputs["input_values"]) if mask is None else mask
            encoded.pooler_output = encoded.pooler_output.split((-(-samples.sum(-1).long() // each)).tolist())
        return encoded
