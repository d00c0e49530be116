"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: patches in a grid, positions of three axes, DeepStack, words between frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.models import qwen2_5_vl, qwen2_vl, qwen3_vl
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange

from foveate.integrations.vllm.model import PrunedMRopeModel
from foveate.integrations.vllm.processor import PruningProcessor
from foveate.integrations.vllm.prompt import restore_tokens
from foveate.integrations.vllm.settings import ImagePlan, Words

PATCHES = {"image_grid_thw": "pixel_values", "video_grid_thw": "pixel_values_videos"}
"""The patches of all images or clips, one after the other, by the name of their (b, 3) grids, before merging."""
CLIP_FIELDS = ("video_grid_thw", "second_per_grid_ts")  # what a clip's positions depend on


class QwenProcessor(PruningProcessor):
    """Images and clips of any size."""

    modalities: tuple[str, ...] = ("image", "video")

    def count_tokens(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """Merged patches; none is protected."""
        return self._count_merged(data["image_grid_thw"])

    def count_clip_tokens(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """Merged patches of all frames; none is protected."""
        return self._count_merged(data["video_grid_thw"])

    def _count_merged(self, grids: Tensor) -> list[tuple[int, int]]:
        merge = self.info.get_hf_config().vision_config.spatial_merge_size
        return [(patches // merge**2, 0) for patches in grids.prod(-1).tolist()]


class PrunedQwen(PrunedMRopeModel):
    """The rows and columns of an image are two of the axes of positions."""

    def slice_inputs(self, kwargs: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
        """The patches of all images (or clips) lie one after the other."""
        ((grids, patches),) = (names for names in PATCHES.items() if names[0] in kwargs)
        sizes = kwargs[grids].prod(-1)
        first, last = int(sizes[:start].sum()), int(sizes[:stop].sum())
        return {patches: kwargs[patches][first:last], grids: kwargs[grids][start:stop]}

    def make_offsets(self, count: int, grid: tuple[int, int, int] | None) -> Tensor:
        """Frame, row and column in a `grid` of merged patches."""
        assert grid is not None
        return torch.stack([axis.flatten() for axis in torch.meshgrid(*map(torch.arange, grid), indexing="ij")])

    def make_clip_offsets(self, plan: ImagePlan, kwargs: Mapping[str, Any], n: int) -> Tensor:
        """The positions that the stock model gives to a prompt of this clip alone."""
        data: Any = {name: SimpleNamespace(data=kwargs[name][n]) for name in CLIP_FIELDS if name in kwargs}
        span = PlaceholderRange(offset=0, length=plan.total)
        clip = MultiModalFeatureSpec(data=data, modality="video", identifier="", mm_position=span)
        placeholders = [self._family.token_id(self.config, "video")] * plan.total
        return self.number_unpruned(restore_tokens(placeholders, plan), [clip])[0]


class PrunedQwen2VLProcessor(QwenProcessor, qwen2_vl.Qwen2VLMultiModalProcessor):
    """`Qwen2VLMultiModalProcessor`."""


class PrunedQwen25VLProcessor(QwenProcessor, qwen2_5_vl.Qwen2_5_VLMultiModalProcessor):
    """`Qwen2_5_VLMultiModalProcessor`."""


class PrunedQwen3VLProcessor(QwenProcessor, qwen3_vl.Qwen3VLMultiModalProcessor):
    """`Qwen3VLMultiModalProcessor`; a timestamp and two marks around every frame of a clip."""

    def read_words(self, data: Any, totals: Sequence[int]) -> list[Words]:
        """All that the stock processor writes between the frames' tokens."""
        config, words = self.info.get_hf_config(), list[Words]()
        ids = {name: getattr(config, name) for name in ("vision_start_token_id", "vision_end_token_id")}
        for total, times in zip(totals, data["timestamps"], strict=True):
            sizes = [total // len(times)] * len(times)
            tokens = self.get_video_repl(
                tokens_per_frame=sizes, timestamps=times, tokenizer=self.info.get_tokenizer(),
                video_token_id=config.video_token_id, **ids,
            ).full  # fmt: skip
            words.append([(place, token) for place, token in enumerate(tokens) if token != config.video_token_id])
        return words


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


class PrunedQwen3VLInfo(qwen3_vl.Qwen3VLProcessingInfo):
    """`Qwen3VLProcessingInfo`, whose own numbers lack the times between a clip's frames."""

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> None:
        """None lets vLLM count what the processor announces for the largest image and clip."""


@MULTIMODAL_REGISTRY.register_processor(
    PrunedQwen3VLProcessor, info=PrunedQwen3VLInfo, dummy_inputs=qwen3_vl.Qwen3VLDummyInputsBuilder
)
class PrunedQwen3VL(PrunedQwen, qwen3_vl.Qwen3VLForConditionalGeneration):
    """`Qwen3VLForConditionalGeneration`."""
