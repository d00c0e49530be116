"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: patches in a grid, positions of three axes, DeepStack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.models import qwen2_5_vl, qwen2_vl, qwen3_vl
from vllm.multimodal import MULTIMODAL_REGISTRY

from foveate.integrations.vllm.model import PrunedMRopeModel
from foveate.integrations.vllm.processor import PruningProcessor

GRIDS = "image_grid_thw"  # (b, 3) in patches, before merging


class QwenProcessor(PruningProcessor):
    """Images of any size."""

    def count_tokens(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """Merged patches; none is protected."""
        merge = self.info.get_hf_config().vision_config.spatial_merge_size
        return [(patches // merge**2, 0) for patches in data[GRIDS].prod(-1).tolist()]


class PrunedQwen(PrunedMRopeModel):
    """The rows and columns of an image are two of the axes of positions."""

    def slice_inputs(self, kwargs: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
        """The patches of all images lie one after the other."""
        sizes = kwargs[GRIDS].prod(-1)
        first, last = int(sizes[:start].sum()), int(sizes[:stop].sum())
        return {"pixel_values": kwargs["pixel_values"][first:last], GRIDS: kwargs[GRIDS][start:stop]}

    def make_offsets(self, count: int, grid: tuple[int, int, int] | None) -> Tensor:
        """Frame, row and column in a `grid` of merged patches."""
        assert grid is not None
        return torch.stack([axis.flatten() for axis in torch.meshgrid(*map(torch.arange, grid), indexing="ij")])


class PrunedQwen2VLProcessor(QwenProcessor, qwen2_vl.Qwen2VLMultiModalProcessor):
    """`Qwen2VLMultiModalProcessor`."""


class PrunedQwen25VLProcessor(QwenProcessor, qwen2_5_vl.Qwen2_5_VLMultiModalProcessor):
    """`Qwen2_5_VLMultiModalProcessor`."""


class PrunedQwen3VLProcessor(QwenProcessor, qwen3_vl.Qwen3VLMultiModalProcessor):
    """`Qwen3VLMultiModalProcessor`."""


@MULTIMODAL_REGISTRY.register_processor(
    PrunedQwen2VLProcessor, info=qwen2_vl.Qwen2VLProcessingInfo, dummy_inputs=qwen2_vl.Qwen2VLDummyInputsBuilder
)
class PrunedQwen2VL(PrunedQwen, qwen2_vl.Qwen2VLForConditionalGeneration):
    """`Qwen2VLForConditionalGeneration`."""


@MULTIMODAL_REGISTRY.register_processor(
    PrunedQwen25VLProcessor,
    info=qwen2_5_vl.Qwen2_5_VLProcessingInfo,
    dummy_inputs=qwen2_5_vl.Qwen2_5_VLDummyInputsBuilder,
)
class PrunedQwen25VL(PrunedQwen, qwen2_5_vl.Qwen2_5_VLForConditionalGeneration):
    """`Qwen2_5_VLForConditionalGeneration`."""


@MULTIMODAL_REGISTRY.register_processor(
    PrunedQwen3VLProcessor, info=qwen3_vl.Qwen3VLProcessingInfo, dummy_inputs=qwen3_vl.Qwen3VLDummyInputsBuilder
)
class PrunedQwen3VL(PrunedQwen, qwen3_vl.Qwen3VLForConditionalGeneration):
    """`Qwen3VLForConditionalGeneration`."""
