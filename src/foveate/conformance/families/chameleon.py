"""Chameleon, Emu3 and Apertus 1.5: pictures in words of the vocabulary, looked up and put in like features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.visual_input import Grid

SIZES = ((32, 24), (16, 32), (32, 32))  # of the pictures of Emu3's example
STEPS = (9, 5)  # of the sounds of Apertus' example, a word each


class TinyChameleon(TinyFamily):
    """Tiny models of `Chameleon`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """The size that the quantizer expects."""
        side = config.vq_config.resolution
        return {"pixel_values": torch.randn(sum(rows), 3, side, side, generator=rng)}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Marks at both ends."""
        ids = [self.family.token_id(config, modality)] * tokens
        return [config.vocabulary_map["<racm3:break>"], *ids, config.vocabulary_map["<eoss>"]]


class TinyEmu3(TinyFamily):
    """Tiny models of `Emu3`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Marks at both ends, and its size in words."""
        return [31, 20, 19, 21, *super().prompt_ids(config, modality, tokens, grid), 32]

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Pictures of different sizes, padded to one."""
        sizes = torch.tensor([SIZES[i % len(SIZES)] for i in range(sum(rows))])
        side = int(sizes.max())
        return {"pixel_values": torch.randn(len(sizes), 3, side, side, generator=rng), "image_sizes": sizes}


class TinyApertus(TinyFamily):
    """Tiny models of `Apertus`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Pictures of different sizes, or sounds of different lengths, padded to one."""
        if modality == "audio":
            lengths = torch.tensor([STEPS[i % len(STEPS)] for i in range(sum(rows))]) * config.audio_config.hop_length
            heard = torch.arange(int(lengths.max())) < lengths[:, None]
            return {
                "input_values": torch.randn(heard.shape, generator=rng)[:, None],
                "padding_mask": heard.long(),
            }
        unit = config.vision_config.spatial_scale_factor
        sizes = torch.tensor([SIZES[i % len(SIZES)] for i in range(sum(rows))]) // 8 * unit
        side = int(sizes.max())
        return {"pixel_values": torch.randn(len(sizes), 3, side, side, generator=rng), "image_sizes": sizes}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Sounds come with a mask."""
        if modality != "audio":
            return super().select_inputs(config, inputs, modality, row, items)
        return {name: inputs[name][items.start : items.stop] for name in ("input_values", "padding_mask")}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Marks at both ends; a picture's size in words, and a word between its rows."""
        ids = [self.family.token_id(config, modality)] * tokens
        if modality == "audio":
            return [33, *ids, 34]
        width = tokens if grid is None else grid[2]
        rows = [n for start in range(0, tokens, width) for n in (35, *ids[start : start + width])]
        return [31, 20, 19, 21, 36, *rows[1:], 32]
