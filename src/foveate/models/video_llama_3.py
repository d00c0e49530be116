"""VideoLLaMA3: pictures of any size, one token a patch or a block of patches, and clips without what frames repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Inputs
from foveate.models.item import Grid
from foveate.models.patches import Timestamped

DROPPED = "video_compression_mask"


class VideoLlama3(Timestamped):
    """`VideoLlama3ForConditionalGeneration`. Clips hold what its processor's compression leaves of them."""

    summary = "VideoLLaMA3; 1-D RoPE, dynamic resolution, clips after the processor's own compression"
    tiny = {"text_config": {"model_type": "qwen2"}}

    def encoder_inputs(self, model: Any, inputs: Inputs, modality: str = "image") -> dict[str, Any]:
        """The compression mask goes with the clips."""
        found = super().encoder_inputs(model, inputs, modality)
        return found | {DROPPED: inputs[DROPPED]} if modality == "video" and inputs.get(DROPPED) is not None else found

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The forward drops the tokens that the mask leaves out only later."""
        encoded = super().encode(model, {n: v for n, v in inputs.items() if n != DROPPED}, modality)
        if modality == "image" or inputs.get(DROPPED) is None:
            return encoded
        stays = inputs[DROPPED].split([len(clip) for clip in encoded.pooler_output])
        clips = [clip[own.to(clip.device)] for clip, own in zip(encoded.pooler_output, stays, strict=True)]
        return type(encoded)(**{**encoded, "pooler_output": clips})

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """Where no token was left out."""
        merges, thw = inputs[f"{modality}_merge_sizes"].tolist(), inputs[f"{modality}_grid_thw"].tolist()
        whole = [(t, h // merge, w // merge) for (t, h, w), merge in zip(thw, merges, strict=True)]
        return [
            grid if len(feature) == grid[0] * grid[1] * grid[2] else None
            for grid, feature in zip(whole, features, strict=True)
        ]

    def example(self, config: Any, modality: str, rows: Sequence[int], generator: torch.Generator) -> dict[str, Any]:
        """Every other clip with a mask that leaves out tokens of its later frames."""
        found = super().example(config, modality, rows, generator)
        if modality == "image":
            return found | {"image_merge_sizes": torch.ones(sum(rows), dtype=torch.long)}
        stays = []
        for number, (t, h, w) in enumerate(found["video_grid_thw"].tolist()):
            places = torch.arange(t * h * w // 4)
            stays.append((places < h * w // 4) | (places % 3 > 0) if number % 2 else places >= 0)
        return found | {"video_merge_sizes": torch.full((sum(rows),), 2), DROPPED: torch.cat(stays)}

    def pick(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Every picture and clip has a merge size."""
        found, name = super().pick(config, inputs, modality, row, items), f"{modality}_merge_sizes"
        found[name] = inputs[name][items.start : items.stop]
        if modality == "video" and DROPPED in inputs:
            ends = [0, *(inputs["video_grid_thw"].prod(-1) // inputs[name] ** 2).cumsum(0).tolist()]
            found[DROPPED] = inputs[DROPPED][ends[items.start] : ends[items.stop]]
        return found
