"""Qwen-Omni thinkers: pictures and clips as in Qwen-VL, and sounds, one token every few frames of a spectrogram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Inputs
from foveate.models.item import Grid
from foveate.models.patches import Patches
from foveate.models.sequence import count_positions

FRAMES = (130, 72)  # of the example's sounds
CHUNK = 100  # frames that Qwen3-Omni's convolutions see together


class Qwen25Omni(Patches):
    """`Qwen2_5OmniThinkerForConditionalGeneration`, also with a clip's sound between its frames.

    `forward` without an attention mask numbers all tokens in a row, and so does this family; `generate` makes a mask.
    """

    versions = ">=5.21"
    summary = "Qwen2.5-Omni's thinker; M-RoPE with time in seconds, dynamic resolution; sounds too"
    modalities = ("image", "video", "audio")
    tiny = {
        "text_config": {
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        },
        "vision_config": {"depth": 4, "fullatt_block_indexes": [1, 3], "window_size": 16, "patch_size": 4},
        "audio_config": {"n_window": 20},
        "vision_start_token_id": 316, "vision_end_token_id": 317,
    }  # fmt: skip

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The tower gives all sounds in one row."""
        encoded = super().encode(model, inputs, modality)
        if modality == "audio":
            lengths = self.sound_lengths(inputs["feature_attention_mask"].sum(-1))
            encoded.pooler_output = encoded.pooler_output.split(lengths.tolist())
        return encoded

    def sound_lengths(self, frames: Tensor) -> Tensor:
        """How many tokens the tower makes of sounds of so many frames: it halves them twice."""
        return (frames + 1) // 2 // 2

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """Time runs in seconds, along clips and sounds alike."""
        if inputs.get("attention_mask") is None:
            return count_positions(mask).expand(4, -1, -1)
        given = {**inputs, "second_per_grids": inputs.get("video_second_per_grid")}
        if inputs.get("feature_attention_mask") is not None:
            given["audio_seqlens"] = inputs["feature_attention_mask"].sum(-1)
        return super().positions(model, given, mask)

    def example(self, config: Any, modality: str, rows: Sequence[int], generator: torch.Generator) -> dict[str, Any]:
        """Sounds of different lengths beside the pictures and clips."""
        if modality == "audio":
            frames = torch.tensor([FRAMES[i % len(FRAMES)] for i in range(sum(rows))])
            heard = torch.arange(max(FRAMES)) < frames[:, None]
            sounds = torch.randn(len(frames), config.audio_config.num_mel_bins, max(FRAMES), generator=generator)
            return {"input_features": sounds, "feature_attention_mask": heard.long()}
        found = super().example(config, modality, rows, generator)
        if modality == "video":
            found["video_second_per_grid"] = torch.arange(1, sum(rows) + 1) / 2
        return found

    def pick(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Sounds lie in a padded batch, and clips come with the seconds that a frame lasts."""
        own = {"audio": ("input_features", "feature_attention_mask"), "video": ("video_second_per_grid",)}
        found = {} if modality == "audio" else super().pick(config, inputs, modality, row, items)
        return found | {name: inputs[name][items.start : items.stop] for name in own.get(modality, ())}

    def span(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Sounds have marks of their own at both ends."""
        if modality != "audio":
            return super().span(config, modality, tokens, grid)
        return [config.audio_start_token_id, *[config.audio_token_id] * tokens, config.audio_end_token_id]


class Qwen3Omni(Qwen25Omni):
    """`Qwen3OmniMoeThinkerForConditionalGeneration`, also with a clip's sound between its frames."""

    summary = "Qwen3-Omni's thinker, mixture of experts; M-RoPE with time in seconds, DeepStack; sounds too"
    tiny = {
        "text_config": {
            "num_hidden_layers": 3,
            "rope_parameters": {
                "rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_theta": 10000.0,
            },
        },
        "vision_config": {"depth": 4, "deepstack_visual_indexes": [0, 1, 2], "patch_size": 4},
        "audio_config": {"n_window_infer": 100, "downsample_hidden_size": 16},
        "vision_start_token_id": 316, "vision_end_token_id": 317, "audio_end_token_id": 318,
    }  # fmt: skip

    def sound_lengths(self, frames: Tensor) -> Tensor:
        """Chunk by chunk it halves them three times, rounding up."""
        return (frames // CHUNK) * -(-CHUNK // 8) + (frames % CHUNK + 7) // 8

    def whole_layers(self, config: Any) -> int:
        """One for each level of DeepStack."""
        return len(config.vision_config.deepstack_visual_indexes)
