"""GLM-4.1V: patches in a grid, positions of three axes."""

from __future__ import annotations

from vllm.model_executor.models import glm4_1v
from vllm.multimodal import MULTIMODAL_REGISTRY

from foveate.integrations.vllm.qwen import PrunedQwen, QwenProcessor


class PrunedGlm4vProcessor(QwenProcessor, glm4_1v.Glm4vMultiModalProcessor):
    """`Glm4vMultiModalProcessor`. Clips, whose frames are written as images, stay whole."""

    modalities = ("image",)


@MULTIMODAL_REGISTRY.register_processor(
    PrunedGlm4vProcessor, info=glm4_1v.Glm4vProcessingInfo, dummy_inputs=glm4_1v.Glm4vDummyInputsBuilder
)
class PrunedGlm4v(PrunedQwen, glm4_1v.Glm4vForConditionalGeneration):
    """`Glm4vForConditionalGeneration`."""
