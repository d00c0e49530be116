"""GOT-OCR 2 and PP-Chart2Table: a SAM tower whose patches two strided convolutions make fewer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from foveate.models.base import Inputs
from foveate.models.overview import is_overview_of_any
from foveate.models.prompt_rows import read_rows
from foveate.models.tiling import TiledFamily


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
