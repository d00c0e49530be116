"""Muse: pictures and clips of any size as patches that are merged after the tower, every fourth layer without RoPE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Inputs
from foveate.models.item import Grid
from foveate.models.patches import Patches

TEXT = {"num_hidden_layers": 5}  # the first layer and the last have no local window
VISION = {"num_hidden_layers": 4, "pos_emb_height": 4, "pos_emb_width": 4}
START, SEPARATOR, END = 31, 32, 33  # any three words stand for the marks around pictures and between frames
SAMPLES = (40, 24)  # of the example's sounds


class MuseGlimmer(Patches):
    """`MuseGlimmerForConditionalGeneration`; its local windows count kept tokens."""

    summary = "Muse Glimmer; 1-D RoPE, dynamic resolution, local windows, a timestamp before every frame"
    tiny = {
        "text_config": TEXT, "vision_config": VISION, "out_hidden_size": 128, "projector_hidden_size": 32,
    }  # fmt: skip

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """The tower's own name for the merge."""
        thw = inputs.get(f"{modality}_grid_thw")
        if thw is None:
            return super().grids(config, inputs, features, modality)
        merge = config.vision_config.merge_size
        return [(t, h // merge, w // merge) for t, h, w in thw.tolist()]

    def patch_shape(self, config: Any) -> tuple[int, ...]:
        """Two frames deep."""
        vision = config.vision_config
        return (3 * vision.patch_temporal * vision.patch_size**2,)

    def span(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Marks at both ends; in a clip the words of a timestamp before every frame, and a mark between frames."""
        frames = grid[0] if grid is not None and modality == "video" else 1
        ids = [self.token_id(config, modality)] * (tokens // frames)
        if modality != "video":
            return [START, *ids, END]
        return [START, *(i for n in range(frames) for i in (20 + n, 19, *ids, SEPARATOR if n < frames - 1 else END))]


class MuseSpark(MuseGlimmer):
    """`MuseSparkForConditionalGeneration`; its local windows count kept tokens."""

    summary = "Muse Spark, mixture of experts; as Muse Glimmer; sounds too"
    modalities = ("image", "video", "audio")
    raw = {**Patches.raw, "audio": "input_values"}
    tiny = {
        **MuseGlimmer.tiny,
        "text_config": {**TEXT, "hidden_size": 64, "num_attention_heads": 4, "moe_hidden_size": 32},
        "audio_config": {
            "num_hidden_layers": 2, "patch_sizes": [4, 2], "hidden_sizes": [8, 16], "depths": [1, 1],
            "out_hidden_size": 64,
        },
    }  # fmt: skip

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The tower gives all sounds in one row."""
        encoded = super().encode(model, inputs, modality)
        if modality == "audio":
            mask, each = inputs.get("input_values_mask"), model.config.audio_config.samples_per_token
            samples = torch.ones_like(inputs["input_values"]) if mask is None else mask
            encoded.pooler_output = encoded.pooler_output.split((-(-samples.sum(-1).long() // each)).tolist())
        return encoded

    def example(self, config: Any, modality: str, rows: Sequence[int], generator: torch.Generator) -> dict[str, Any]:
        """Sounds of different lengths beside the pictures and clips."""
        if modality != "audio":
            return super().example(config, modality, rows, generator)
        lengths = torch.tensor([SAMPLES[i % len(SAMPLES)] for i in range(sum(rows))])
        heard = torch.arange(max(SAMPLES)) < lengths[:, None]
        waves = torch.randn(heard.shape, generator=generator)
        return {"input_values": waves, "input_values_mask": heard.long()}
