"""Video-LLaVA: images as in LLaVA-1.5, videos through a tower of their own, frame by frame with [CLS] tokens."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from foveate.models.base import Features, Grids, Inputs
from foveate.models.llava import Llava
from foveate.models.visual_input import VisualInput


class VideoLlava(Llava):
    """Video-LLaVA; images and videos, each with its own tower."""

    traits = replace(Llava.traits, versions=">=5.21", modalities=("image", "video"), in_decoder=False)

    def extras(self, config: Any) -> frozenset[str]:
        """None: nobody looks into the two towers."""
        return frozenset()

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The stock encoder's frames (b * t, n, d) joined to videos (b, t * n, d)."""
        encoded = super().encode(model, inputs, modality)
        raw = inputs.get(self.traits.main_inputs[modality])
        if modality == "video" and raw is not None:
            encoded.pooler_output = encoded.pooler_output.unflatten(0, raw.shape[:2]).flatten(1, 2)
        return encoded

    def keep(self, encoded: Any, items: Sequence[VisualInput]) -> Any:
        """(k, 1, d) a row: the model flattens two axes."""
        short = super().keep(encoded, items)
        short.pooler_output = [tokens[:, None] for tokens in short.pooler_output]
        return short

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """None for videos: every frame begins with its [CLS] token."""
        if modality == "video":
            return [None] * len(features)
        return super().grids(config, inputs, features, modality)
