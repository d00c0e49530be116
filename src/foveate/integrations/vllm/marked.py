"""Families whose prompts hold words among an image's tokens: ends of rows, names of tiles, starts and ends of images.

Which tokens stay is known only after the encoder, and so is how many of them stand before such a word. Its embedding
is therefore a row among theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from vllm.multimodal.inputs import MultiModalKwargsItems

from foveate.integrations.vllm.model import PrunedRopeModel
from foveate.integrations.vllm.processor import PruningProcessor
from foveate.integrations.vllm.prompt import restore_tokens
from foveate.integrations.vllm.rope import RopeProcessor
from foveate.integrations.vllm.settings import ImagePlan, Layout


class MarkedProcessor(RopeProcessor):
    """Reads the words from what the stock processor writes for an image.

    A subclass says in `count_image_tokens` how many tokens an image has together with its words.
    """

    def lay_out_images(self, mm_items: Any, data: Any, kwargs: Mapping[str, Any]) -> list[Layout]:
        """As stock vLLM would write each image; all that no feature stands for is a word."""
        stock: Any = super(PruningProcessor, self)
        items = MultiModalKwargsItems.from_hf_inputs(data, stock._get_mm_fields_config(data, kwargs))
        (update,) = (one for one in stock._get_prompt_updates(mm_items, kwargs, items) if one.modality == "image")
        return [find_words(update.resolve(n).content) for n in range(len(items["image"]))]


def find_words(content: Any) -> Layout:
    """How many features an image has (none is protected), and the words among them, from vLLM's own replacement."""
    places = (~content.is_embed(content.full)).nonzero().squeeze(1).tolist()
    return (len(content.full) - len(places), 0), [(place, content.full[place]) for place in places]


class PrunedMarkedModel(PrunedRopeModel):
    """Put before a stock model with one axis of positions."""

    def describe_images(self, kwargs: Mapping[str, Any], plans: Sequence[ImagePlan]) -> Mapping[str, Any]:
        """With the ids of all images, one after the other, as a row of a prompt."""
        placeholder = self._family.token_id(self.config)
        ids = [token for plan in plans for token in restore_tokens([placeholder] * plan.total, plan)]
        return {**kwargs, "input_ids": torch.tensor([ids])}


class PrunedTiledModel(PrunedMarkedModel):
    """Put before one that gets the tiles of all images one after the other, and how many each image has."""

    counts: str
    """The name of that input."""

    def slice_inputs(self, kwargs: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
        """The tiles of these images."""
        counts: Tensor = kwargs[self.counts]
        first, last, total = (int(counts[:end].sum()) for end in (start, stop, len(counts)))
        tiles = {name: value[first:last] for name, value in kwargs.items() if value.ndim and len(value) == total}
        return {**tiles, self.counts: counts[start:stop]}
