"""LLaVA-1.5, and Pixtral, which has the same architecture with another tower."""

from __future__ import annotations

import re
from typing import Any

from vllm.model_executor.models import llava
from vllm.model_executor.models.utils import WeightsMapper
from vllm.multimodal import MULTIMODAL_REGISTRY

from foveate.integrations.vllm.pixtral import PixtralProcessor, PrunedPixtralModel
from foveate.integrations.vllm.rope import RopeProcessor

# From 5.19 on, transformers saves the weights of a tower without this part of the name; vLLM reads them with it.
# Pixtral's tower, whose weights begin with the other names here, has never had it.
TOWER_NAMES = WeightsMapper(
    orig_to_new_regex={
        re.compile(
            r"^((model\.)?vision_tower\.)(?!vision_model\.|patch_conv\.|ln_pre\.|transformer\.)"
        ): r"\1vision_model."
    }
)


class PrunedLlavaProcessor(RopeProcessor, llava.LlavaMultiModalProcessor):
    """`LlavaMultiModalProcessor`."""


class PrunedPixtralProcessor(PixtralProcessor, llava.PixtralHFMultiModalProcessor):
    """`PixtralHFMultiModalProcessor`."""


def make_info(context: Any) -> Any:
    """What stock vLLM knows of the model, by its tower."""
    is_pixtral = context.get_hf_config().vision_config.model_type == "pixtral"
    return (llava.PixtralHFProcessingInfo if is_pixtral else llava.LlavaProcessingInfo)(context)


def make_processor(info: Any, dummy_inputs: Any) -> Any:
    """The processor for that tower."""
    is_pixtral = isinstance(info, llava.PixtralHFProcessingInfo)
    return (PrunedPixtralProcessor if is_pixtral else PrunedLlavaProcessor)(info, dummy_inputs)


@MULTIMODAL_REGISTRY.register_processor(make_processor, info=make_info, dummy_inputs=llava.LlavaDummyInputsBuilder)
class PrunedLlava(PrunedPixtralModel, llava.LlavaForConditionalGeneration):
    """`LlavaForConditionalGeneration`."""

    hf_to_vllm_mapper = TOWER_NAMES | llava.LlavaForConditionalGeneration.hf_to_vllm_mapper
