"""LLaVA-1.5."""

from __future__ import annotations

import re
from typing import Any

from vllm.model_executor.models.llava import (
    LlavaDummyInputsBuilder,
    LlavaForConditionalGeneration,
    LlavaMultiModalProcessor,
    LlavaProcessingInfo,
)
from vllm.model_executor.models.utils import WeightsMapper
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.parse import ImageProcessorItems

from foveate.vllm.model import OneAxis
from foveate.vllm.processor import Pruning

# transformers saves a tower's weights without this part since 5.19, and vLLM still reads them with it.
TOWER = WeightsMapper(
    orig_to_new_regex={re.compile(r"^((model\.)?vision_tower\.)(?!vision_model\.)"): r"\1vision_model."}
)


def sizes(mm_items: Any) -> list[Any]:
    """Width and height of every picture that came as one."""
    pictures = mm_items.get_items("image", ImageProcessorItems)
    return [pictures.get_image_size(n) for n in range(len(pictures))]


class LlavaProcessor(Pruning, LlavaMultiModalProcessor):  # type: ignore[misc]
    """`LlavaMultiModalProcessor`."""

    def counts(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """The tower's patches."""
        info = self.info
        return [
            (info.get_num_image_tokens(image_width=size.width, image_height=size.height), 0) for size in sizes(mm_items)
        ]


@MULTIMODAL_REGISTRY.register_processor(LlavaProcessor, info=LlavaProcessingInfo, dummy_inputs=LlavaDummyInputsBuilder)
class Llava(OneAxis, LlavaForConditionalGeneration):  # type: ignore[misc]
    """`LlavaForConditionalGeneration`."""

    hf_to_vllm_mapper = TOWER | LlavaForConditionalGeneration.hf_to_vllm_mapper
