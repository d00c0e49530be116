"""Nemotron-H Omni: pictures of any size as merged patches, in a language model of Mamba-2, attention and experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.visual_input import Grid


class NemotronHOmni(Family):
    """`NemotronH_Omni_Reasoning_V3`. Without positions of its own, the state of Mamba-2 runs over the kept tokens.

    Clips have the pictures' placeholders, so that the model takes either in one call; they are not pruned.
    """

    traits = replace(
        Family.traits,
        summary="Nemotron-H Omni; dynamic resolution, Mamba-2 and experts; sounds pass through",
        sequential_positions=True,
    )

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """Two by two patches are one token."""
        sizes = inputs.get("image_grid_hw")
        return [None] * len(features) if sizes is None else [(1, h // 2, w // 2) for h, w in sizes.tolist()]

    def decoder(self, model: Any) -> Any:
        """Below the language model's own head."""
        return model.language_model.model
