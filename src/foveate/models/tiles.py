"""Images in tiles between markers: Aya Vision, Command A Vision, InternVL, Qianfan-OCR, GOT-OCR 2, Ovis2, Aria."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from foveate.errors import InputError
from foveate.models.base import Inputs, Masks
from foveate.models.batch import PromptBatch
from foveate.models.cache import cache_of, count_cached_tokens
from foveate.models.kept import keep_tokens, kept_output, regroup_output
from foveate.models.overview import is_overview_of_any
from foveate.models.prompt_rows import (
    PromptRow,
    Starts,
    read_rows,
    starts_after_breaks,
    starts_between_ends,
    starts_with,
)
from foveate.models.tiling import TiledFamily, split_tokens
from foveate.models.visual_input import VisualInput


class AyaVision(TiledFamily):
    """Aya Vision; tiles, local windows."""

    traits = replace(TiledFamily.traits, overview="last")

    def find_starts(self, config: Any, inputs: Inputs, row: PromptRow) -> Starts:
        """Marks stand at an image's start and end."""
        return starts_between_ends(row, self.template(config, []).is_control)


class Cohere2Vision(TiledFamily):
    """Command A Vision; tiles, local windows."""

    traits = replace(TiledFamily.traits, overview="last")

    def find_starts(self, config: Any, inputs: Inputs, row: PromptRow) -> Starts:
        """One line break stands between two tiles of an image."""
        return starts_after_breaks(row, self.template(config, []).is_control)


class InternVL(TiledFamily):
    """InternVL; tiles, every frame of a video is an image."""

    traits = replace(TiledFamily.traits, overview="last")
    joins_runs = True

    def tile_size(self, config: Any) -> int:
        """Patches, merged in squares."""
        vision = config.vision_config
        return int(vision.image_size[0] // vision.patch_size[0] * config.downsample_ratio) ** 2


class QianfanOcr(InternVL):
    """Qianfan-OCR; tiles."""


class GotOcr2(TiledFamily):
    """GOT-OCR 2, PP-Chart2Table; tiles where the pixels tell them from pages."""

    traits = replace(TiledFamily.traits, overview="last")
    joins_runs = True

    def tile_size(self, config: Any) -> int:
        """Patches, halved twice along each side."""
        return int(config.vision_config.image_size // config.vision_config.patch_size // 4) ** 2

    def find_sizes(self, config: Any, inputs: Inputs, sizes: Sequence[int], modality: str) -> list[int] | None:
        """Tiles that the last of them shows together are one image; every other one is a page."""
        size, pixels, images = self.tile_size(config), inputs.get("pixel_values"), []
        done = 0
        for row in read_rows(inputs["input_ids"], self.placeholders(config, inputs, modality)):
            for first, end in row.runs:
                count = (end - first) // size
                if count > 2 and pixels is None:
                    return None
                tiles = () if pixels is None else pixels[done : done + count]
                counts = [1] * count if count < 3 else _count_tiles(tiles)
                if counts is None:
                    return None
                images += [size * number for number in counts]
                done += count
        return images


def _count_tiles(tiles: Sequence[Tensor]) -> list[int] | None:
    """How many of these tiles or pages, (c, h, w) each, every image has; None where all of some are blank."""
    counts: list[int] = []
    while sum(counts) < len(tiles):
        rest, count = tiles[sum(counts) :], 1
        for number in range(len(rest), 2, -1):
            answer = is_overview_of_any(rest[: number - 1], rest[number - 1])
            if answer is None:
                return None
            if answer:
                count = number
                break
        counts.append(count)
    return counts


class Ovis2(TiledFamily):
    """Ovis2; tiles, visual vocabulary."""

    # no overview, as the tiles must not be drawn: the stock processor may lay them out the wrong way round

    def find_starts(self, config: Any, inputs: Inputs, row: PromptRow) -> Starts:
        """By the indicator of an image's start."""
        return starts_with(row, config.visual_indicator_token_ids[0])

    def shorten(self, model: Any, batch: PromptBatch) -> dict[str, Any]:
        """Not behind a cache with an indicator: without the image that is another word."""
        count = count_cached_tokens(cache_of(batch.inputs))
        if bool((batch.inputs["input_ids"][:, :count] == model.config.visual_indicator_token_ids[0]).any()):
            raise InputError(
                "The cache (past_key_values) ends behind the mark of an image's start, which the image embeds: pass a "
                "cache of the words before it, or none."
            )
        return super().shorten(model, batch)

    @property
    def overview(self) -> str:
        """Not among the traits."""
        return "first"

    def write_levels(self, encoded: Any, levels: Sequence[list[Tensor]], absent: Masks) -> Any:
        """With the indicators."""
        indicators = encoded.visual_indicator_features
        return regroup_output(encoded, levels[0], visual_indicator_features=indicators, absent=absent)

    def regroup(self, encoded: Any, sizes: Sequence[int]) -> Any:
        """With the indicators."""
        entries = split_tokens(self.features(encoded), sizes)
        return regroup_output(encoded, entries, visual_indicator_features=encoded.visual_indicator_features)

    def keep(self, encoded: Any, items: Sequence[VisualInput]) -> Any:
        """With what the indicators in the prompt are embedded as."""
        rows = keep_tokens(encoded.pooler_output, items)
        return kept_output(encoded, rows, visual_indicator_features=encoded.visual_indicator_features)


class Aria(TiledFamily):
    """Aria; queries without places; several crops in one run may be several images."""

    # a query belongs to no place
    traits = replace(TiledFamily.traits, raster=False, placed=False)
