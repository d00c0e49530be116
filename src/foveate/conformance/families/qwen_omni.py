"""Qwen-Omni thinkers: pictures and clips as in Qwen-VL, and sounds, one token every few frames of a spectrogram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.patches import TinyPatches
from foveate.models.base import Inputs
from foveate.models.visual_input import Grid

FRAMES = (130, 72)  # of the example's sounds


class TinyQwen25Omni(TinyPatches):
    """Tiny models of `Qwen25Omni`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Sounds of different lengths beside the pictures and clips."""
        if modality == "audio":
            frames = torch.tensor([FRAMES[i % len(FRAMES)] for i in range(sum(rows))])
            heard = torch.arange(max(FRAMES)) < frames[:, None]
            sounds = torch.randn(len(frames), config.audio_config.num_mel_bins, max(FRAMES), generator=rng)
            return {"input_features": sounds, "feature_attention_mask": heard.long()}
        found = super().make_inputs(config, modality, rows, rng)
        if modality == "video":
            found["video_second_per_grid"] = torch.arange(1, sum(rows) + 1) / 2
        return found

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Sounds lie in a padded batch, and clips come with the seconds that a frame lasts."""
        own = {"audio": ("input_features", "feature_attention_mask"), "video": ("video_second_per_grid",)}
        found = {} if modality == "audio" else super().select_inputs(config, inputs, modality, row, items)
        return found | {name: inputs[name][items.start : items.stop] for name in own.get(modality, ())}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Sounds have marks of their own at both ends."""
        if modality != "audio":
            return super().prompt_ids(config, modality, tokens, grid)
        return [config.audio_start_token_id, *[config.audio_token_id] * tokens, config.audio_end_token_id]
