"""Idefics: a mask says which token sees which image."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.cross import TinyCrossAttention
from foveate.conformance.tiny_config import image_size
from foveate.models.base import Inputs
from foveate.models.visual_input import Grid


class TinyIdefics(TinyCrossAttention):
    """Tiny models of `Idefics`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """With blank images in rows that have fewer."""
        side = image_size(config)
        pixels = torch.randn(len(rows), max(rows), 3, side, side, generator=rng)
        for row, count in enumerate(rows):
            pixels[row, count:] = 0
        return {"pixel_values": pixels}

    def prompt_inputs(self, config: Any, inputs: Inputs) -> dict[str, Any]:
        """A text token sees the last image before it."""
        number = self.family.placeholders(config, inputs).cumsum(1) - 1
        last = number[..., None] == torch.arange(inputs["pixel_values"].shape[1], device=number.device)
        return {"image_attention_mask": last.long()}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """One marker, between two of another kind."""
        around = config.vocab_size
        return [around, around + 1, around]

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The images of a row are one entry."""
        return {"pixel_values": inputs["pixel_values"][row : row + 1]}
