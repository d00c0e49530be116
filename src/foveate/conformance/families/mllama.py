"""Llama 3.2 Vision: images of different numbers of tiles."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.cross import TinyCrossAttention
from foveate.models.base import Inputs
from foveate.models.visual_input import Grid

TILES = (2, 1, 4, 3)  # of the images, in turn


class TinyMllama(TinyCrossAttention):
    """Tiny models of `Mllama`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Rows padded to the same number of images, images to the same number of tiles."""
        vision = config.vision_config
        shape = (len(rows), max(rows), vision.max_num_tiles)
        pixels = torch.randn(*shape, 3, vision.image_size, vision.image_size, generator=rng)
        ids, tiles, number = torch.zeros(shape[:2], dtype=torch.long), torch.zeros(shape, dtype=torch.long), 0
        tiles[..., 0] = 1  # as in the processor's output, in padding too
        for row, count in enumerate(rows):
            pixels[row, count:] = 0
            for image in range(count):
                size = TILES[number % len(TILES)]
                ids[row, image] = vision.supported_aspect_ratios.index([1, size]) + 1
                tiles[row, image, :size], pixels[row, image, size:] = 1, 0
                number += 1
        return {"pixel_values": pixels, "aspect_ratio_ids": ids, "aspect_ratio_mask": tiles}

    def prompt_inputs(self, config: Any, inputs: Inputs) -> dict[str, Any]:
        """A text token sees the last image before it."""
        if "aspect_ratio_mask" not in inputs:
            return {}
        number = self.family.placeholders(config, inputs).cumsum(1) - 1
        last = number[..., None] == torch.arange(inputs["aspect_ratio_ids"].shape[1], device=number.device)
        real = inputs["aspect_ratio_mask"] * (inputs["aspect_ratio_ids"] != 0)[..., None]
        return {"cross_attention_mask": last[..., None] * real[:, None]}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """One marker."""
        return [self.family.token_id(config)]

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The images of a row are one entry."""
        names = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")
        return {name: inputs[name][row : row + 1] for name in names}

    def randomize_zeros(self, model: Any) -> None:
        """Gates start closed."""
        for name, parameter in model.named_parameters():
            if "gate" in name.rsplit(".", 1)[-1]:
                parameter.fill_(0.5)
