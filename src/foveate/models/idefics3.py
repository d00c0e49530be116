"""Idefics2, Idefics3 and SmolVLM: tiles of a fixed number of tokens, rows padded with blank tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family
from foveate.models.kept import keep_tokens, kept_output
from foveate.models.visual_input import VisualInput


class Idefics3(Family):
    """`Idefics3ForConditionalGeneration`. Every tile has a budget of its own."""

    traits = replace(
        Family.traits, overview="last", summary="Idefics3; a budget for every tile, markers of rows and columns stay"
    )

    def features(self, encoded: Any, modality: str = "image") -> list[Tensor]:
        """The encoder joins all tiles of a row; the tower's output tells how many there are."""
        tiles = getattr(encoded, "last_hidden_state", None)
        if tiles is None:
            return list(encoded.pooler_output)
        joined = torch.cat(list(encoded.pooler_output))
        return list(joined.split(len(joined) // len(tiles)))

    def keep(self, encoded: Any, items: Sequence[VisualInput]) -> Any:
        """Of every tile."""
        return kept_output(encoded, pooler_output=keep_tokens(self.features(encoded), items))

    def decoder(self, model: Any) -> Any:
        """It has another name here."""
        return model.base_model.text_model


class SmolVLM(Idefics3):
    """`SmolVLMForConditionalGeneration`, to which the frames of a clip are pictures."""

    traits = replace(
        Idefics3.traits,
        summary="SmolVLM; a budget for every tile or frame, markers of rows and columns stay",
        versions=">=5.21",
    )


class Idefics2(Idefics3):
    """`Idefics2ForConditionalGeneration`. Every tile has a budget of its own; its tokens are a resampler's."""

    # a resampler's tokens lie on no raster
    traits = replace(Idefics3.traits, raster=False, summary="Idefics2; a budget for every tile, resampled tokens")
