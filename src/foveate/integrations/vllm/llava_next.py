"""LLaVA-NeXT and LLaVA-OneVision: an overview and joined tiles, whose rows end in protected newlines."""

from __future__ import annotations

from typing import Any

from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape
from vllm.model_executor.models import llava, llava_next, llava_onevision
from vllm.multimodal import MULTIMODAL_REGISTRY

from foveate.integrations.vllm.llava import TOWER_NAMES
from foveate.integrations.vllm.model import PrunedRopeModel
from foveate.integrations.vllm.rope import RopeProcessor, read_sizes


class TiledProcessor(RopeProcessor):
    """Images as an overview and tiles."""

    def count_tokens(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """Overview, tiles and newlines; the newlines are protected."""
        return [(self.count_image_tokens(size), self._count_newlines(size)) for size in read_sizes(mm_items)]

    def _count_newlines(self, size: Any) -> int:
        """One for every row of the joined tiles, after the padding is cut off."""
        tower = self.info.get_vision_encoder_info()
        rows, columns = get_anyres_image_grid_shape(
            (size.height, size.width), self.info.get_hf_config().image_grid_pinpoints, tower.get_image_size()
        )
        _, newlines = self.info._get_num_unpadded_features(
            original_height=size.height,
            original_width=size.width,
            npatches=tower.get_patch_grid_length(),
            num_patch_height=rows,
            num_patch_width=columns,
        )
        return int(newlines)


class PrunedLlavaNextProcessor(TiledProcessor, llava_next.LlavaNextMultiModalProcessor):
    """`LlavaNextMultiModalProcessor`."""


class PrunedLlavaOnevisionProcessor(TiledProcessor, llava_onevision.LlavaOnevisionMultiModalProcessor):
    """`LlavaOnevisionMultiModalProcessor`; clips too."""

    modalities = ("image", "video")


@MULTIMODAL_REGISTRY.register_processor(
    PrunedLlavaNextProcessor, info=llava_next.LlavaNextProcessingInfo, dummy_inputs=llava.LlavaDummyInputsBuilder
)
class PrunedLlavaNext(PrunedRopeModel, llava_next.LlavaNextForConditionalGeneration):
    """`LlavaNextForConditionalGeneration`."""

    hf_to_vllm_mapper = TOWER_NAMES | llava_next.LlavaNextForConditionalGeneration.hf_to_vllm_mapper


@MULTIMODAL_REGISTRY.register_processor(
    PrunedLlavaOnevisionProcessor,
    info=llava_onevision.LlavaOnevisionProcessingInfo,
    dummy_inputs=llava_onevision.LlavaOnevisionDummyInputsBuilder,
)
class PrunedLlavaOnevision(PrunedRopeModel, llava_onevision.LlavaOnevisionForConditionalGeneration):
    """`LlavaOnevisionForConditionalGeneration`."""

    hf_to_vllm_mapper = TOWER_NAMES | llava_onevision.LlavaOnevisionForConditionalGeneration.hf_to_vllm_mapper
