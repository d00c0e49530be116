"""Kimi K2.5: images of any size, and videos in chunks of some frames that are averaged to one."""

from typing import Any

from foveate.models.base import Features, Grids, Inputs
from foveate.models.patches import Patches


class KimiK25(Patches):
    """Kimi K2.5; 1-D RoPE, latent attention, dynamic resolution, a timestamp before every chunk of a video.

    A budget of videos is one of each chunk: no input tells where a video ends.
    """

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """As stock, but one by one: transformers 5.23 fails on chunks of several frames and of different lengths."""
        if modality == "image" or (inputs.get("mm_encoder_outputs") or {}).get(modality) is not None:
            return super().encode(model, inputs, modality)
        core, thw = model.base_model, inputs["video_grid_thw"]
        chunks = inputs["pixel_values_videos"].split(thw.prod(-1).tolist())
        outputs = [core.vision_tower(chunk, grid_thw=one[None]) for chunk, one in zip(chunks, thw, strict=True)]
        tokens = [core.mm_projector(output.pooler_output).squeeze(1) for output in outputs]
        return type(outputs[0])(pooler_output=tokens)

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """One frame for each chunk."""
        height, width = config.vision_config.merge_kernel_size
        return [(1, h // height, w // width) for _, h, w in inputs[f"{modality}_grid_thw"].tolist()]
