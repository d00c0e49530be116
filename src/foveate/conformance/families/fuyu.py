"""Fuyu: flattened patches, and a newline after each row of them in the prompt."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.fuyu import NEWLINE
from foveate.models.visual_input import Grid


class TinyFuyu(TinyFamily):
    """Tiny models of `Fuyu`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Squares of patches."""
        width = config.num_channels * config.patch_size**2
        return {"pixel_values": torch.randn(sum(rows), 9, width, generator=rng)}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Row by row, each with its newline, then the first token of the text."""
        _, h, w = grid or (1, 1, tokens)
        row = [*super().prompt_ids(config, modality, w, None), config.image_token_id + NEWLINE]
        return [*row * h, config.get_text_config().bos_token_id]
