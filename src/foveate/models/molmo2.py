"""Molmo 2: an image as one small view and one of tiles, their tokens pooled from patches, which all see each other."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from foveate.models.base import Features, Grids, Inputs
from foveate.models.shared_placeholders import Together
from foveate.models.template import Template


class Molmo2(Together):
    """Molmo 2; tiles, ends of rows of their own, images attend both ways, frames with timestamps.

    Also with images beside videos, which the stock model refuses.

    An image is both its views.
    """

    traits = replace(Together.traits, modalities=("image", "video"), reuse="nothing")
    marks = ("frame_start_token_id", "frame_end_token_id")

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """Two views are no raster."""
        shapes = inputs.get("video_grids") if modality == "video" else None
        return [None] * len(features) if shapes is None else [(t, h, w) for t, h, w in shapes.tolist()]

    def token_types(self, config: Any, inputs: Inputs) -> Tensor:
        """All ids beyond the words' are images and what frames them."""
        beyond: Tensor = inputs["input_ids"] >= config.text_config.vocab_size
        return beyond.long()

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """The same ids stand inside a turn."""
        plain, text = super().template(config, stop_ids), config.text_config
        seen = frozenset(range(text.vocab_size, text.vocab_size + text.additional_vocab_size))
        return replace(plain, controls=plain.controls | seen, structure=plain.structure | seen)
