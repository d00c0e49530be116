"""Families that write marks among an image's tokens, which the engine embeds like any word (`layout.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from vllm.multimodal.inputs import MultiModalKwargsItems

from foveate.integrations.vllm.layout import Layout, find_layout, write_ids
from foveate.integrations.vllm.model import PrunedRopeModel
from foveate.integrations.vllm.processor import PruningProcessor
from foveate.integrations.vllm.rope import RopeProcessor
from foveate.integrations.vllm.settings import ImagePlan


class MarkedProcessor(RopeProcessor):
    """Reads the marks from the stock processor's replacement of an image's placeholder."""

    def lay_out(self, mm_items: Any, data: Any, kwargs: Mapping[str, Any]) -> list[Layout]:
        """As stock vLLM would write each image."""
        stock: Any = super(PruningProcessor, self)
        items = MultiModalKwargsItems.from_hf_inputs(data, stock._get_mm_fields_config(data, kwargs))
        (update,) = (one for one in stock._get_prompt_updates(mm_items, kwargs, items) if one.modality == "image")
        written = [update.resolve(n).content for n in range(len(items["image"]))]
        return [find_layout(content.full, content.is_embed(content.full)) for content in written]


class PrunedMarkedModel(PrunedRopeModel):
    """Put before a stock model with one axis of positions whose images stand among marks."""

    def describe_images(self, kwargs: Mapping[str, Any], plans: Sequence[ImagePlan]) -> Mapping[str, Any]:
        """With the ids of all images, one after the other, as a row of a prompt."""
        placeholder = self._family.token_id(self.config)
        ids = [token for plan in plans for token in write_ids(placeholder, plan.total, plan.marks)]
        return {**kwargs, "input_ids": torch.tensor([ids])}


class PrunedTiledModel(PrunedMarkedModel):
    """Put before one that gets the tiles of all images one after the other, and how many each image has."""

    counts: str
    """The name of that input."""

    def slice_inputs(self, kwargs: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
        """The tiles of these images."""
        counts = kwargs[self.counts]
        first, last = int(counts[:start].sum()), int(counts[:stop].sum())
        tiles: dict[str, Tensor] = {n: v[first:last] for n, v in kwargs.items() if v.ndim and len(v) == counts.sum()}
        same = {name: value.expand(stop - start) for name, value in kwargs.items() if not value.ndim}
        return {**tiles, **same, self.counts: counts[start:stop]}
