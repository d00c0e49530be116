"""Idefics2, Idefics3 and SmolVLM: tiles of a fixed number of tokens, rows padded with blank tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.item import Grid
from foveate.models.kept import Mixes, keep_tokens, kept_output


class Idefics3(Family):
    """`Idefics3ForConditionalGeneration`. Every tile has a budget of its own."""

    overview, tiles_apart = "last", True
    summary = "Idefics3; a budget for every tile, markers of rows and columns stay"
    tiny = {
        "text_config": {"bos_token_id": 300, "eos_token_id": 301, "pad_token_id": 302},
        "vision_config": {"patch_size": 4},
        "image_token_id": 303,
    }

    def features(self, encoded: Any, modality: str = "image") -> list[Tensor]:
        """The encoder joins all tiles of a row; the tower's output tells how many there are."""
        tiles = getattr(encoded, "last_hidden_state", None)
        if tiles is None:
            return list(encoded.pooler_output)
        joined = torch.cat(list(encoded.pooler_output))
        return list(joined.split(len(joined) // len(tiles)))

    def keep(self, encoded: Any, kept: Sequence[Tensor], rows: Sequence[int], mixes: Mixes = ()) -> Any:
        """Of every tile."""
        return kept_output(encoded, pooler_output=keep_tokens(self.features(encoded), kept, rows, mixes))

    def decoder(self, model: Any) -> Any:
        """It has another name here."""
        return model.base_model.text_model

    def example(self, config: Any, modality: str, rows: Sequence[int], generator: torch.Generator) -> dict[str, Any]:
        """Tiles of which some are part padding, and blank ones in rows that have fewer."""
        side, patch = config.vision_config.image_size, config.vision_config.patch_size
        pixels = torch.randn(len(rows), max(rows), 3, side, side, generator=generator)
        real = torch.ones(len(rows), max(rows), side, side, dtype=torch.long)
        for row, count in enumerate(rows):
            pixels[row, count:] = 0
            real[row, 1::2, :, side - 2 * patch :] = 0
            real[row, count:] = 0
        return {"pixel_values": pixels, "pixel_attention_mask": real}

    def pick(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """A row's tiles lie together."""
        names = ("pixel_values", "pixel_attention_mask")
        return {name: inputs[name][row : row + 1, : len(items)] for name in names}

    def span(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """A tile stands between markers, of which the second says which one it is."""
        return [20, 19, *super().span(config, modality, tokens, grid), 20]


class SmolVLM(Idefics3):
    """`SmolVLMForConditionalGeneration`, to which the frames of a clip are pictures."""

    summary = "SmolVLM; a budget for every tile or frame, markers of rows and columns stay"
    versions = ">=5.21"


class Idefics2(Idefics3):
    """`Idefics2ForConditionalGeneration`. Every tile has a budget of its own; its tokens are a resampler's."""

    raster = False  # a resampler's tokens lie on no raster
    summary = "Idefics2; a budget for every tile, resampled tokens"
    tiny = {
        **Idefics3.tiny,
        "text_config": {**Idefics3.tiny["text_config"], "hidden_size": 64},
        "perceiver_config": {
            "hidden_size": 64, "resampler_n_latents": 8, "resampler_depth": 1, "resampler_n_heads": 4,
            "resampler_head_dim": 16, "num_key_value_heads": 2,
        },
    }  # fmt: skip

    def wake(self, model: Any) -> None:
        """The resampler's latents start out all alike."""
        model.base_model.connector.perceiver_resampler.latents.normal_()
