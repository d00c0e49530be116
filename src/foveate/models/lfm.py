"""LFM2-VL and LFM3-VL: language models of short convolutions and attention; tiles, or merged patches of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.patches import Timestamped
from foveate.models.template import Template, open_with
from foveate.models.visual_input import Grid

IM_START = 6  # of LFM2; no configuration names it
TILE_MARKS = range(1, 104)  # of LFM2, so far behind the placeholder's id: rows and columns, thumbnail, start, end
IMAGE_TOKEN = 396


class Convolutions(Family):
    """Convolutions multiply their input by the mask."""

    def shorten(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As always, but a mask that only says that it is no row of ones must round away: see `rewrite.ATTEND`."""
        short = super().shorten(*args, **kwargs)
        mask = short["attention_mask"]
        if bool((mask > 1).all()):
            kind = torch.float32 if mask.device.type == "mps" else torch.float64
            short["attention_mask"] = torch.full_like(mask, 1 + torch.finfo(kind).eps, dtype=kind)
        return short


class Lfm2VL(Convolutions):
    """`Lfm2VlForConditionalGeneration`. The budget is a tile's; convolutions run over the kept tokens."""

    traits = replace(
        Convolutions.traits,
        overview="last",
        summary="LFM2-VL; every tile counts as a picture, short convolutions between attention",
    )

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """As `spatial_shapes` says, in merged patches."""
        shapes = inputs.get("spatial_shapes")
        if shapes is None:
            return [None] * len(features)
        return [(1, h // config.downsample_factor, w // config.downsample_factor) for h, w in shapes.tolist()]

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """As configured, and what LFM2's vocabulary has beside."""
        plain = super().template(config, stop_ids)
        if config.image_token_id != IMAGE_TOKEN:
            return plain
        return open_with(IM_START, plain, (config.image_token_id + mark for mark in TILE_MARKS))


class Lfm3VL(Convolutions, Timestamped):
    """`Lfm3VlForConditionalGeneration`. Convolutions run over the kept tokens, local windows count them."""

    traits = replace(
        Timestamped.traits,
        summary="LFM3-VL; dynamic resolution, short convolutions between attention, local windows, timestamps",
    )
