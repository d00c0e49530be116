"""Mistral 3, and the tower that it shares with Pixtral: images of any size, every row of which ends in a mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vllm.model_executor.models import mistral3
from vllm.multimodal import MULTIMODAL_REGISTRY

from foveate.integrations.vllm.marked import MarkedProcessor, PrunedMarkedModel
from foveate.integrations.vllm.settings import ImagePlan


class PixtralProcessor(MarkedProcessor):
    """Rows of patches."""

    def count_image_tokens(self, size: Any) -> int:
        """The patches, and a mark behind every row of them."""
        info = self.info.get_vision_encoder_info()
        columns, rows = info.get_patch_grid_size(image_width=size.width, image_height=size.height)
        return int((columns + 1) * rows)


class PrunedPixtralModel(PrunedMarkedModel):
    """The pixels say how large an image is."""

    def describe_images(self, kwargs: Mapping[str, Any], plans: Sequence[ImagePlan]) -> Mapping[str, Any]:
        """With the sizes."""
        sizes = [tuple(pixels.shape[-2:]) for pixels in kwargs["pixel_values"]]
        return {**super().describe_images(kwargs, plans), "image_sizes": sizes}


class PrunedMistral3Processor(PixtralProcessor, mistral3.Mistral3MultiModalProcessor):
    """`Mistral3MultiModalProcessor`."""


@MULTIMODAL_REGISTRY.register_processor(
    PrunedMistral3Processor, info=mistral3.Mistral3ProcessingInfo, dummy_inputs=mistral3.Mistral3DummyInputsBuilder
)
class PrunedMistral3(PrunedPixtralModel, mistral3.Mistral3ForConditionalGeneration):
    """`Mistral3ForConditionalGeneration`."""
