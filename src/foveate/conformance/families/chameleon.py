"""Chameleon, Emu3 and Apertus 1.5: images (and audios) as tokens of the vocabulary."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.visual_input import Grid

SIZES = ((32, 24), (16, 32), (32, 32))  # (height, width) of the images, in pixels of Emu3
STEPS = (9, 5)  # tokens of the audios


class TinyChameleon(TinyFamily):
    """Tiny models of `Chameleon`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images of the size that the quantizer expects."""
        side = config.vq_config.resolution
        return {"pixel_values": torch.randn(sum(rows), 3, side, side, generator=rng)}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Markers at both ends."""
        ids = [self.family.token_id(config, modality)] * tokens
        return [config.vocabulary_map["<racm3:break>"], *ids, config.vocabulary_map["<eoss>"]]


class TinyEmu3(TinyFamily):
    """Tiny models of `Emu3`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Markers at both ends, and the size in text tokens."""
        return [31, 20, 19, 21, *super().prompt_ids(config, modality, tokens, grid), 32]

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images of different sizes, padded to the largest."""
        sizes = torch.tensor([SIZES[i % len(SIZES)] for i in range(sum(rows))])
        side = int(sizes.max())
        return {"pixel_values": torch.randn(len(sizes), 3, side, side, generator=rng), "image_sizes": sizes}


class TinyApertus(TinyFamily):
    """Tiny models of `Apertus`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images of different sizes, or audios of different lengths, padded to the largest."""
        if modality == "audio":
            lengths = torch.tensor([STEPS[i % len(STEPS)] for i in range(sum(rows))]) * config.audio_config.hop_length
            mask = torch.arange(int(lengths.max())) < lengths[:, None]
            return {"input_values": torch.randn(mask.shape, generator=rng)[:, None], "padding_mask": mask.long()}
        unit = config.vision_config.spatial_scale_factor
        sizes = torch.tensor([SIZES[i % len(SIZES)] for i in range(sum(rows))]) // 8 * unit
        side = int(sizes.max())
        return {"pixel_values": torch.randn(len(sizes), 3, side, side, generator=rng), "image_sizes": sizes}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Markers at both ends; an image's size in text tokens, and a separator between its rows."""
        ids = [self.family.token_id(config, modality)] * tokens
        if modality == "audio":
            return [33, *ids, 34]
        width = tokens if grid is None else grid[2]
        rows = [n for start in range(0, tokens, width) for n in (35, *ids[start : start + width])]
        return [31, 20, 19, 21, 36, *rows[1:], 32]
