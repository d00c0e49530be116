"""Qwen-Omni thinkers: audios beside the images and videos of Qwen-VL."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.patches import TinyPatches
from foveate.models.visual_input import Grid

FRAMES = (130, 72)  # of the audios' spectrograms


class TinyQwen25Omni(TinyPatches):
    """Tiny models of `Qwen25Omni`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Audios padded to the longest; videos with the seconds of a frame."""
        if modality == "audio":
            frames = torch.tensor([FRAMES[i % len(FRAMES)] for i in range(sum(rows))])
            mask = torch.arange(max(FRAMES)) < frames[:, None]
            features = torch.randn(len(frames), config.audio_config.num_mel_bins, max(FRAMES), generator=rng)
            return {"input_features": features, "feature_attention_mask": mask.long()}
        made = super().make_inputs(config, modality, rows, rng)
        if modality == "video":
            made["video_second_per_grid"] = torch.arange(1, sum(rows) + 1) / 2
        return made

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Audios have markers of their own at both ends."""
        if modality != "audio":
            return super().prompt_ids(config, modality, tokens, grid)
        return [config.audio_start_token_id, *[config.audio_token_id] * tokens, config.audio_end_token_id]
