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

from foveate.errors import InputError
from foveate.integrations.vllm.model import OneAxis, positions_of
from foveate.integrations.vllm.processor import Pruning
from foveate.integrations.vllm.settings import Settings

# transformers saves a tower's weights without this part since 5.19, and vLLM still reads them with it.
TOWER = WeightsMapper(
    orig_to_new_regex={re.compile(r"^((model\.)?vision_tower\.)(?!vision_model\.)"): r"\1vision_model."}
)


def sizes(mm_items: Any) -> list[Any]:
    """Width and height of every picture that came along; those that vLLM has already may come by name alone."""
    pictures = mm_items.get_items("image", ImageProcessorItems)
    return [pictures.get_image_size(n) for n in range(len(pictures)) if pictures.get(n) is not None]


class Counted(Pruning):
    """For models whose tokens are numbered one by one, up to a last position."""

    def counts(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """The tower's patches."""
        return [(self.total(size), 0) for size in sizes(mm_items)]

    def total(self, size: Any) -> int:
        """How many tokens a picture of this size makes."""
        return int(self.info.get_num_image_tokens(image_width=size.width, image_height=size.height))

    def check(self, settings: Settings, inputs: Any) -> None:
        """Raises an `InputError` too for pictures that, whole, would take the text past the last position."""
        super().check(settings, inputs)
        if settings.positions == "compact":
            return
        whole = len(inputs.prompt) + sum(self.total(size) - 1 for size in sizes(inputs.mm_data_items))
        last = positions_of(self.info.ctx.model_config)
        if whole > last:
            raise InputError(
                f"With its pictures whole the prompt would be {whole} tokens long, and the model has {last} "
                'positions: ask for "positions": "compact", or send fewer pictures.'
            )


class LlavaProcessor(Counted, LlavaMultiModalProcessor):  # type: ignore[misc]
    """`LlavaMultiModalProcessor`."""


@MULTIMODAL_REGISTRY.register_processor(LlavaProcessor, info=LlavaProcessingInfo, dummy_inputs=LlavaDummyInputsBuilder)
class Llava(OneAxis, LlavaForConditionalGeneration):  # type: ignore[misc]
    """`LlavaForConditionalGeneration`."""

    hf_to_vllm_mapper = TOWER | LlavaForConditionalGeneration.hf_to_vllm_mapper
