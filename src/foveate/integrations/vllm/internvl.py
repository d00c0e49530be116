"""InternVL as transformers has it: tiles between a start and an end mark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm.model_executor.models import interns1
from vllm.multimodal import MULTIMODAL_REGISTRY

from foveate.integrations.vllm.marked import MarkedProcessor, PrunedTiledModel


class PrunedInternVLProcessor(MarkedProcessor, interns1.InternS1MultiModalProcessor):
    """`InternS1MultiModalProcessor`, which vLLM runs InternVL with."""

    def count_image_tokens(self, size: Any) -> int:
        """The tokens of its tiles, a start and an end."""
        processor, pixels = self.info.get_hf_processor(), {"image_width": size.width, "image_height": size.height}
        return int(self.info.get_num_image_tokens(**pixels, processor=processor, mm_kwargs={})) + 2


@MULTIMODAL_REGISTRY.register_processor(
    PrunedInternVLProcessor, info=interns1.InternS1ProcessingInfo, dummy_inputs=interns1.InternS1DummyInputsBuilder
)
class PrunedInternVL(PrunedTiledModel, interns1.InternS1ForConditionalGeneration):
    """`InternVLForConditionalGeneration`."""

    counts = "image_num_patches"

    def slice_inputs(self, kwargs: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
        """With the placeholder's id, of which vLLM gives one for all images."""
        ids = kwargs["image_token_id"].flatten()[:1].expand(stop - start)
        return {**super().slice_inputs(kwargs, start, stop), "image_token_id": ids}
