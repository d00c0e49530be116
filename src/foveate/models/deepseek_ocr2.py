"""DeepSeek-OCR 2 and Unlimited-OCR: a picture's tiles, then the whole of it, then one token that ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family, Inputs


class DeepseekOcr2(Family):
    """`DeepseekOcr2ForConditionalGeneration`; the budget is a whole picture's, its tiles included."""

    # several tiles, of queries that belong to no place
    traits = replace(
        Family.traits, raster=False, summary="DeepSeek-OCR 2; tiles of learned queries, the closing token stays"
    )

    def protected(
        self, model: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Tensor | None]:
        """The token that ends a picture."""
        ends = [torch.zeros(len(f), dtype=torch.bool, device=f.device) for f in features]
        for end in ends:
            end[-1] = True
        return list(ends)


class UnlimitedOcr(DeepseekOcr2):
    """`UnlimitedOcrForConditionalGeneration`; its window is over generated words, the whole prompt stays in sight."""

    traits = replace(DeepseekOcr2.traits, summary="Unlimited-OCR; tiles, newline and closing tokens stay")

    def protected(
        self, model: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Tensor | None]:
        """The ends of rows too."""
        newline = model.base_model.image_newline
        ends = super().protected(model, inputs, features, modality)
        return [end | (f == newline.to(f)).all(-1) for f, end in zip(features, ends, strict=True) if end is not None]
