"""Idefics2, Idefics3 and SmolVLM: tiles of a fixed number of tokens, rows padded with blank tiles."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Inputs
from foveate.models.kept import keep_tokens, kept_output
from foveate.models.overview import is_overview
from foveate.models.prompt_rows import PromptRow, Starts, starts_after_overview
from foveate.models.tiling import TiledFamily
from foveate.models.visual_input import VisualInput

SPLIT = 5  # tiles of a split image of Idefics2: four quarters, then the whole


class Idefics3(TiledFamily):
    """Idefics3; tiles, markers of rows and columns stay."""

    traits = replace(TiledFamily.traits, overview="last")

    def find_starts(self, config: Any, inputs: Inputs, row: PromptRow) -> Starts:
        """By the mark of the overview, which is an image's last tile."""
        return starts_after_overview(row)

    def features(self, encoded: Any, modality: str = "image") -> list[Tensor]:
        """The encoder joins all tiles of a row; the tower's output tells how many there are."""
        tiles = getattr(encoded, "last_hidden_state", None)
        if tiles is None:
            return list(encoded.pooler_output)
        joined = torch.cat(list(encoded.pooler_output))
        return list(joined.split(len(joined) // len(tiles)))

    def tile_pixels(self, model: Any, inputs: Inputs) -> Sequence[Tensor]:
        """Without the blank ones that rows are padded with."""
        pixels: Tensor = inputs["pixel_values"].flatten(0, 1)
        return list(pixels[self.find_real(model, inputs)])

    def take_tiles(self, model: Any, inputs: Inputs, tiles: Tensor) -> dict[str, Any]:
        """As the tiles of one row."""
        real = self.find_real(model, inputs).nonzero().squeeze(1)[tiles.to(inputs["pixel_values"].device)]
        return {name: value.flatten(0, 1)[real][None] for name, value in self.encoder_inputs(model, inputs).items()}

    def find_real(self, model: Any, inputs: Inputs) -> Tensor:
        """(b * t,): the tiles that are not blank, as the stock model finds them."""
        real: Tensor = (inputs["pixel_values"].to(model.dtype) != 0).flatten(2).any(-1).flatten()
        return real

    def keep(self, encoded: Any, items: Sequence[VisualInput]) -> Any:
        """Of every image."""
        return kept_output(encoded, keep_tokens(self.features(encoded), items))

    def decoder(self, model: Any) -> Any:
        """It has another name here."""
        return model.base_model.text_model


class SmolVLM(Idefics3):
    """SmolVLM; tiles, every frame of a video is an image, markers of rows and columns stay."""

    traits = replace(Idefics3.traits, versions=">=5.21")


class Idefics2(Idefics3):
    """Idefics2; tiles where the pixels tell which are one image, resampled tokens."""

    # a resampler's tokens lie on no raster
    traits = replace(Idefics3.traits, raster=False, placed=False)

    def find_starts(self, config: Any, inputs: Inputs, row: PromptRow) -> Starts:
        """Images without text between are tiles in one chain, with a fence before, between and after them."""
        fence = row.after(row.last())[:1]
        if not fence or any(row.before(n)[-1:] != fence or row.after(n)[:1] != fence for n in range(len(row.runs))):
            return None
        starts: list[bool] = []
        heads = [n for n in range(len(row.runs)) if n == 0 or row.before(n) != fence]
        for first, end in zip(heads, [*heads[1:], len(row.runs)], strict=True):
            if (end - first) % SPLIT:
                starts += [True] * (end - first)
                continue
            for n in range(first, end, SPLIT):
                is_split = self._is_split(inputs, row.row, n)
                if is_split is None:
                    return None
                starts += [True, *[not is_split] * (SPLIT - 1)]
        return starts

    def _is_split(self, inputs: Inputs, row: int, first: int) -> bool | None:
        """Whether five tiles of a row are the quarters of an image and the whole; None where no pixels tell."""
        pixels, masks = inputs.get("pixel_values"), inputs.get("pixel_attention_mask")
        if pixels is None or masks is None:
            return None
        tiles = []
        for tile, mask in zip(pixels[row, first : first + SPLIT], masks[row, first : first + SPLIT], strict=True):
            tiles.append(tile[:, : int(mask.any(1).sum()), : int(mask.any(0).sum())])
        return is_overview(tiles[:-1], tiles[-1], rows=2)
