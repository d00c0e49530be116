"""VideoLLaMA3: images of any size, one token a patch or a block of patches, and videos without what frames repeat."""

from typing import Any

from foveate.models.base import Features, Grids, Inputs
from foveate.models.patches import Timestamped

DROPPED = "video_compression_mask"


class VideoLlama3(Timestamped):
    """VideoLLaMA3; 1-D RoPE, dynamic resolution, videos after the processor's own compression."""

    def encoder_inputs(self, model: Any, inputs: Inputs, modality: str = "image") -> dict[str, Any]:
        """The compression mask goes with the videos."""
        own = super().encoder_inputs(model, inputs, modality)
        return own | {DROPPED: inputs[DROPPED]} if modality == "video" and inputs.get(DROPPED) is not None else own

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The forward drops the tokens that the mask leaves out only later."""
        encoded = super().encode(model, {n: v for n, v in inputs.items() if n != DROPPED}, modality)
        if modality == "image" or inputs.get(DROPPED) is None:
            return encoded
        stays = inputs[DROPPED].split([len(video) for video in encoded.pooler_output])
        videos = [video[own.to(video.device)] for video, own in zip(encoded.pooler_output, stays, strict=True)]
        return type(encoded)(**{**encoded, "pooler_output": videos})

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """Where no token was left out."""
        merges, thw = inputs[f"{modality}_merge_sizes"].tolist(), inputs[f"{modality}_grid_thw"].tolist()
        whole = [(t, h // merge, w // merge) for (t, h, w), merge in zip(thw, merges, strict=True)]
        return [
            grid if len(feature) == grid[0] * grid[1] * grid[2] else None
            for grid, feature in zip(whole, features, strict=True)
        ]
