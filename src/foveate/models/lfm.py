"""LFM2-VL and LFM3-VL: language models of short convolutions and attention; tiles, or merged patches of any size."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.patches import Timestamped
from foveate.models.prompt_rows import PromptRow, Starts, starts_between_ends, starts_with
from foveate.models.template import Template, open_with
from foveate.models.tiling import Shape, TiledFamily

IM_START = 6  # of LFM2; no configuration names it
TILE_MARKS = range(1, 104)  # of LFM2, so far behind the placeholder's id: rows and columns, thumbnail, start, end
IMAGE_TOKEN = 396


class Convolutions(Family):
    """Convolutions multiply their input by the mask."""

    def shorten(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As always, but a mask that only says that it is no row of ones must round away: see `sequence.ATTEND`."""
        short = super().shorten(*args, **kwargs)
        mask = short["attention_mask"]
        if bool((mask > 1).all()):
            kind = torch.float32 if mask.device.type == "mps" else torch.float64
            short["attention_mask"] = torch.full_like(mask, 1 + torch.finfo(kind).eps, dtype=kind)
        return short


class Lfm2VL(TiledFamily, Convolutions):
    """LFM2-VL; tiles, short convolutions between attention.

    Convolutions run over the kept tokens.

    Without its special tokens (`use_image_special_tokens=False`) tiles and images cannot be told apart.
    """

    traits = replace(Convolutions.traits, overview="last")

    def find_starts(self, config: Any, inputs: Inputs, row: PromptRow) -> Starts:
        """Marks stand at an image's start and end."""
        if config.image_token_id == IMAGE_TOKEN:
            return starts_with(row, IMAGE_TOKEN + TILE_MARKS[-2])
        return starts_between_ends(row, self.template(config, []).is_control)

    def tile_shapes(self, config: Any, inputs: Inputs, modality: str) -> list[Shape]:
        """As `spatial_shapes` says, in merged patches."""
        shapes, side = inputs.get("spatial_shapes"), config.downsample_factor
        return [] if shapes is None else [(-(-h // side), -(-w // side)) for h, w in shapes.tolist()]

    def tile_pixels(self, model: Any, inputs: Inputs) -> list[Tensor]:
        """The values of a patch as channels of its place."""
        shapes, pixels = inputs["spatial_shapes"].tolist(), inputs["pixel_values"]
        return [patches[: h * w].T.unflatten(1, (h, w)) for patches, (h, w) in zip(pixels, shapes, strict=True)]

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """As configured, and what LFM2's vocabulary has beside."""
        plain = super().template(config, stop_ids)
        if config.image_token_id != IMAGE_TOKEN:
            return plain
        return open_with(IM_START, plain, (config.image_token_id + mark for mark in TILE_MARKS))


class Lfm3VL(Convolutions, Timestamped):
    """LFM3-VL; dynamic resolution, short convolutions between attention, local windows, timestamps."""
