"""Mistral 3: Pixtral's tower, images of any size in merged patches, every row of which ends in a token of its own."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from foveate.models.base import Family, Features, Grids, Inputs
from foveate.models.template import Template

TEKKEN_VOCABULARY = 131072
IMG_BREAK, IMG_END = 12, 13
INST, INST_END = 3, 4


def tekken_template(plain: Template, vocabulary: int) -> Template:
    """Where the vocabulary is Tekken's and the checkpoint names no roles, [INST] and [/INST] open turns."""
    if plain.roles or vocabulary < TEKKEN_VOCABULARY:
        return plain
    return replace(plain, roles=(((INST,),), ((INST_END,),)), filler=frozenset({IMG_BREAK, IMG_END}))


class ImageSizes(Family):
    """Images of any size, padded to the largest: `image_sizes` says how large each is."""

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """As `image_sizes` says, in merged patches."""
        sizes = inputs.get("image_sizes")
        if sizes is None:
            return [None] * len(features)
        side = self.side(config)
        return [(1, int(h) // side, int(w) // side) for h, w in sizes]

    def side(self, config: Any) -> int:
        """How many pixels a token is wide."""
        return int(config.vision_config.patch_size * config.spatial_merge_size)


class Mistral3(ImageSizes):
    """Mistral Small 3.1 and 4 and kin; Pixtral's tower, dynamic resolution, ends of rows stay."""

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """As configured, or Tekken's."""
        return tekken_template(super().template(config, stop_ids), config.get_text_config().vocab_size)


class MistralLarge4(Mistral3):
    """Mistral Large 4; Pixtral's tower, ends of rows stay, sparse attention with an indexer, experts."""


class LightOnOcr(ImageSizes):
    """LightOnOCR; Pixtral's tower, dynamic resolution; made to read whole pages.

    Its prompts seldom hold words, and all text of a page counts.
    """
