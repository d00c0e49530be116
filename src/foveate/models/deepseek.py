"""DeepSeek-VL and Janus, DeepSeek-OCR 2 and Unlimited-OCR."""

from dataclasses import replace
from typing import Any

import torch

from foveate.models.base import Family, Features, Inputs, Masks


class DeepseekVLHybrid(Family):
    """DeepSeek-VL 7B; SigLIP and SAM towers side by side."""


class Janus(Family):
    """Janus and Janus-Pro; answers in words."""


class DeepseekOcr2(Family):
    """DeepSeek-OCR 2; tiles of learned queries, the closing token stays."""

    # several tiles, of queries that belong to no place
    traits = replace(Family.traits, raster=False, placed=False)

    def protected(self, model: Any, inputs: Inputs, features: Features, modality: str = "image") -> Masks:
        """The token that ends an image."""
        ends = [torch.zeros(len(f), dtype=torch.bool, device=f.device) for f in features]
        for end in ends:
            end[-1] = True
        return list(ends)


class UnlimitedOcr(DeepseekOcr2):
    """Unlimited-OCR; tiles, newline and closing tokens stay.

    Its window is over generated words, the whole prompt stays in sight.
    """

    # its tokens are patches
    traits = replace(DeepseekOcr2.traits, placed=True, reuse="nothing")

    def protected(self, model: Any, inputs: Inputs, features: Features, modality: str = "image") -> Masks:
        """The ends of rows too."""
        newline = model.base_model.image_newline
        ends = super().protected(model, inputs, features, modality)
        return [end | (f == newline.to(f)).all(-1) for f, end in zip(features, ends, strict=True) if end is not None]
