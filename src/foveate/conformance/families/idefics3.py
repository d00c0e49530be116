"""Idefics2, Idefics3 and SmolVLM: tiles of a fixed number of tokens, rows padded with blank tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.visual_input import Grid


class TinyIdefics3(TinyFamily):
    """Tiny models of `Idefics3`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Tiles of which some are part padding, and blank ones in rows that have fewer."""
        side, patch = config.vision_config.image_size, config.vision_config.patch_size
        pixels = torch.randn(len(rows), max(rows), 3, side, side, generator=rng)
        real = torch.ones(len(rows), max(rows), side, side, dtype=torch.long)
        for row, count in enumerate(rows):
            pixels[row, count:] = 0
            real[row, 1::2, :, side - 2 * patch :] = 0
            real[row, count:] = 0
        return {"pixel_values": pixels, "pixel_attention_mask": real}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """A row's tiles lie together."""
        names = ("pixel_values", "pixel_attention_mask")
        return {name: inputs[name][row : row + 1, : len(items)] for name in names}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """A tile stands between markers, of which the second says which one it is."""
        return [20, 19, *super().prompt_ids(config, modality, tokens, grid), 20]


class TinyIdefics2(TinyIdefics3):
    """Tiny models of `Idefics2`."""

    def randomize_zeros(self, model: Any) -> None:
        """The resampler's latents start out all alike."""
        model.base_model.connector.perceiver_resampler.latents.normal_()
