"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: patches in a grid, positions of three axes, DeepStack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.models.qwen2_5_vl import (
    Qwen2_5_VLDummyInputsBuilder,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLMultiModalProcessor,
    Qwen2_5_VLProcessingInfo,
)
from vllm.model_executor.models.qwen2_vl import (
    Qwen2VLDummyInputsBuilder,
    Qwen2VLForConditionalGeneration,
    Qwen2VLMultiModalProcessor,
    Qwen2VLProcessingInfo,
)
from vllm.model_executor.models.qwen3_vl import (
    Qwen3VLDummyInputsBuilder,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMultiModalProcessor,
    Qwen3VLProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from foveate.integrations.vllm.model import Pruned
from foveate.integrations.vllm.processor import Pruning

GRIDS = "image_grid_thw"  # (b, 3) in patches, before merging


class Gridded(Pruning):
    """Pictures of any size."""

    def counts(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """Merged patches."""
        merge = self.info.get_hf_config().vision_config.spatial_merge_size
        return [(patches // merge**2, 0) for patches in data[GRIDS].prod(-1).tolist()]


class Patches(Pruned):
    """Rows and columns of a picture are two of the axes."""

    def some(self, kwargs: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
        """All pictures' patches lie in one row."""
        sizes = kwargs[GRIDS].prod(-1)
        first, last = int(sizes[:start].sum()), int(sizes[:stop].sum())
        return {"pixel_values": kwargs["pixel_values"][first:last], GRIDS: kwargs[GRIDS][start:stop]}

    def places(self, count: int, grid: tuple[int, int, int] | None) -> Tensor:
        """Frame, row and column; `grid` is that of the merged patches."""
        assert grid is not None
        return torch.stack([axis.flatten() for axis in torch.meshgrid(*map(torch.arange, grid), indexing="ij")])


class Qwen2VLProcessor(Gridded, Qwen2VLMultiModalProcessor):  # type: ignore[misc]
    """`Qwen2VLMultiModalProcessor`."""


class Qwen25VLProcessor(Gridded, Qwen2_5_VLMultiModalProcessor):  # type: ignore[misc]
    """`Qwen2_5_VLMultiModalProcessor`."""


class Qwen3VLProcessor(Gridded, Qwen3VLMultiModalProcessor):  # type: ignore[misc]
    """`Qwen3VLMultiModalProcessor`."""


@MULTIMODAL_REGISTRY.register_processor(
    Qwen2VLProcessor, info=Qwen2VLProcessingInfo, dummy_inputs=Qwen2VLDummyInputsBuilder
)
class Qwen2VL(Patches, Qwen2VLForConditionalGeneration):  # type: ignore[misc]
    """`Qwen2VLForConditionalGeneration`."""


@MULTIMODAL_REGISTRY.register_processor(
    Qwen25VLProcessor, info=Qwen2_5_VLProcessingInfo, dummy_inputs=Qwen2_5_VLDummyInputsBuilder
)
class Qwen25VL(Patches, Qwen2_5_VLForConditionalGeneration):  # type: ignore[misc]
    """`Qwen2_5_VLForConditionalGeneration`."""


@MULTIMODAL_REGISTRY.register_processor(
    Qwen3VLProcessor, info=Qwen3VLProcessingInfo, dummy_inputs=Qwen3VLDummyInputsBuilder
)
class Qwen3VL(Patches, Qwen3VLForConditionalGeneration):  # type: ignore[misc]
    """`Qwen3VLForConditionalGeneration`."""
