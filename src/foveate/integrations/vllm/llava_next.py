"""LLaVA-NeXT and LLaVA-OneVision: tiles, whose joined rows end in newlines that always stay."""

from __future__ import annotations

from typing import Any

from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape
from vllm.model_executor.models.llava import LlavaDummyInputsBuilder
from vllm.model_executor.models.llava_next import (
    LlavaNextForConditionalGeneration,
    LlavaNextMultiModalProcessor,
    LlavaNextProcessingInfo,
)
from vllm.model_executor.models.llava_onevision import (
    LlavaOnevisionDummyInputsBuilder,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionMultiModalProcessor,
    LlavaOnevisionProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from foveate.integrations.vllm.llava import TOWER, Counted, sizes
from foveate.integrations.vllm.model import OneAxis


class Tiled(Counted):
    """Pictures as a whole and in tiles."""

    def counts(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """Whole, tiles and newlines; newlines."""
        return [(self.total(size), self._newlines(size)) for size in sizes(mm_items)]

    def _newlines(self, size: Any) -> int:
        """One for every row of the joined tiles, after the padding is cut off."""
        tower = self.info.get_vision_encoder_info()
        rows, columns = get_anyres_image_grid_shape(
            (size.height, size.width), self.info.get_hf_config().image_grid_pinpoints, tower.get_image_size()
        )
        _, newlines = self.info._get_num_unpadded_features(
            original_height=size.height, original_width=size.width, npatches=tower.get_patch_grid_length(),
            num_patch_height=rows, num_patch_width=columns,
        )  # fmt: skip
        return int(newlines)


class LlavaNextProcessor(Tiled, LlavaNextMultiModalProcessor):  # type: ignore[misc]
    """`LlavaNextMultiModalProcessor`."""


class LlavaOnevisionProcessor(Tiled, LlavaOnevisionMultiModalProcessor):  # type: ignore[misc]
    """`LlavaOnevisionMultiModalProcessor`."""


@MULTIMODAL_REGISTRY.register_processor(
    LlavaNextProcessor, info=LlavaNextProcessingInfo, dummy_inputs=LlavaDummyInputsBuilder
)
class LlavaNext(OneAxis, LlavaNextForConditionalGeneration):  # type: ignore[misc]
    """`LlavaNextForConditionalGeneration`."""

    hf_to_vllm_mapper = TOWER | LlavaNextForConditionalGeneration.hf_to_vllm_mapper


@MULTIMODAL_REGISTRY.register_processor(
    LlavaOnevisionProcessor, info=LlavaOnevisionProcessingInfo, dummy_inputs=LlavaOnevisionDummyInputsBuilder
)
class LlavaOnevision(OneAxis, LlavaOnevisionForConditionalGeneration):  # type: ignore[misc]
    """`LlavaOnevisionForConditionalGeneration`."""

    hf_to_vllm_mapper = TOWER | LlavaOnevisionForConditionalGeneration.hf_to_vllm_mapper
