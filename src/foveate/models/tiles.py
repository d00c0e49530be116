"""Aya Vision, Command A Vision, InternVL and Qianfan-OCR: the encoder returns every tile of a picture as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.kept import kept_output
from foveate.models.visual_input import Grid, Tiles, VisualInput, tile_squares


class AyaVision(Family):
    """`AyaVisionForConditionalGeneration`; the budget is a tile's, local windows count kept tokens."""

    traits = replace(
        Family.traits, overview="last", summary="Aya Vision; every tile counts as a picture, local windows"
    )


class Cohere2Vision(Family):
    """`Cohere2VisionForConditionalGeneration`; the budget is a tile's, local windows count kept tokens."""

    traits = replace(
        Family.traits, overview="last", summary="Command A Vision; every tile counts as a picture, local windows"
    )


class InternVL(Family):
    """`InternVLForConditionalGeneration`; the budget is a picture's, or that of one frame of a clip."""

    traits = replace(
        Family.traits, overview="last", summary="InternVL; tiles, every frame of a clip counts as a picture"
    )

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """Tiles (b, n, d) joined to pictures: those of one picture stand in one run of placeholders."""
        encoded = super().encode(model, inputs, modality)
        if "input_ids" not in inputs:
            return encoded
        rows = self.placeholders(model.config, inputs, modality).tolist()
        runs = [sum(1 for _ in run) for row in rows for shows, run in groupby(row) if shows]
        tokens = torch.cat(list(encoded.pooler_output))
        if sum(runs) != len(tokens):
            return encoded  # `items` says what does not match
        return kept_output(encoded, pooler_output=list(tokens.split(runs)))

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """Of pictures of one tile; several are no raster."""
        side = _side(config)
        return [(1, side, side) if len(feature) == side**2 else None for feature in features]

    def find_tiles(self, config: Any, inputs: Inputs, item: VisualInput) -> Tiles:
        """A square for every tile."""
        count, rest = divmod(len(item.embeds), _side(config) ** 2)
        return () if rest else tile_squares(count, _side(config))


class QianfanOcr(InternVL):
    """`QianfanOCRForConditionalGeneration`; the budget is a picture's."""

    traits = replace(InternVL.traits, summary="Qianfan-OCR; tiles")


def _side(config: Any) -> int:
    """Tokens along the side of a tile."""
    vision = config.vision_config
    return int(vision.image_size[0] // vision.patch_size[0] * config.downsample_ratio)
