"""Images in tiles between markers of their own: Aya, Command A, InternVL, GOT-OCR 2, Llama 4, Ovis2, LFM2-VL ...."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from foveate.conformance.families.tiled import Layout, TinyTiledFamily
from foveate.models.base import Inputs
from foveate.models.lfm import IMAGE_TOKEN, TILE_MARKS
from foveate.models.minicpm_v import SIZE_INPUTS
from foveate.models.visual_input import Grid


def special_id(config: Any, number: int) -> int:
    """One of the last ids of the vocabulary, which the markers of a processor are among."""
    return int(config.get_text_config().vocab_size) - 5 + number


class TinyAyaVision(TinyTiledFamily):
    """Tiny models of `AyaVision`."""

    def mark_tiles(self, config: Any, layout: Layout, tile: list[int]) -> list[int]:
        """A number of two ids before every tile, another id before the overview."""
        numbered = [token for n in range(layout[0] * layout[1]) for token in (20, 21 + n, *tile)]
        start, end = (special_id(config, n) for n in range(2))
        return [start, *(numbered if layout != (1, 1) else []), 19, *tile, end]


class TinyCohere2Vision(TinyTiledFamily):
    """Tiny models of `Cohere2Vision`."""

    def mark_tiles(self, config: Any, layout: Layout, tile: list[int]) -> list[int]:
        """A break after every tile."""
        count = layout[0] * layout[1]
        start, end, line_break = (special_id(config, n) for n in range(3))
        return [start, *[*tile, line_break] * (count + (count > 1)), end]


class TinyInternVL(TinyTiledFamily):
    """Tiny models of `InternVL`."""

    def mark_tiles(self, config: Any, layout: Layout, tile: list[int]) -> list[int]:
        """All in one run."""
        count = layout[0] * layout[1]
        return [special_id(config, 0), *tile * (count + (count > 1)), special_id(config, 1)]


class TinyGotOcr2(TinyInternVL):
    """Tiny models of `GotOcr2`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """With overviews that show their tiles: nothing else tells tiles from pages."""
        made = super().make_inputs(config, modality, rows, rng)
        self.show_overviews(made["pixel_values"], sum(rows), overview=-1)
        return made


class TinyOvis2(TinyTiledFamily):
    """Tiny models of `Ovis2`."""

    def mark_tiles(self, config: Any, layout: Layout, tile: list[int]) -> list[int]:
        """Indicators: start, overview, grid, then tiles with ends of columns and rows between, end."""
        start, grid, column, row, end = config.visual_indicator_token_ids
        ids = [start, *tile, grid]
        for number in range(layout[0] * layout[1] if layout != (1, 1) else 0):
            ids += [*([row if number % layout[1] == 0 else column] if number else []), *tile]
        return [*ids, end]


class TinyLlama4(TinyTiledFamily):
    """Tiny models of `Llama4`."""

    def mark_tiles(self, config: Any, layout: Layout, tile: list[int]) -> list[int]:
        """Separators after tiles, another marker before the overview."""
        ids = [config.boi_token_id]
        for number in range(layout[0] * layout[1] if layout != (1, 1) else 0):
            ids += [*tile, 21 if (number + 1) % layout[1] == 0 else 20]
        return [*ids, 22, *tile, config.eoi_token_id]


TILE = (2, 2)  # (h, w) in tokens
# The layout of an image's tiles, and (h, w) in tokens of its overview: each image has another number of tokens.
LAYOUTS: tuple[tuple[Layout, tuple[int, int]], ...] = (((1, 2), (2, 3)), ((1, 1), (3, 3)), ((2, 2), (4, 2)))


class TinyLfm2VL(TinyTiledFamily):
    """Tiny models of `Lfm2VL`."""

    def layout(self, number: int) -> Layout:
        """Of the tiles."""
        return LAYOUTS[number % len(LAYOUTS)][0]

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Tiles and overviews padded to the longest."""
        sides = []
        for number, count in enumerate(self.count_tiles(range(sum(rows)))):
            sides += [*[TILE] * (count - 1), LAYOUTS[number % len(LAYOUTS)][1]]
        shapes = torch.tensor(sides) * config.downsample_factor
        longest = int(shapes.prod(-1).max())
        pixels = torch.randn(len(shapes), longest, 3 * config.vision_config.patch_size**2, generator=rng)
        mask = (torch.arange(longest) < shapes.prod(-1, keepdim=True)).long()
        return {"pixel_values": pixels, "spatial_shapes": shapes, "pixel_attention_mask": mask}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The tiles of the row's images."""
        first = sum(self.count_tiles(range(items.start)))
        tiles = slice(first, first + sum(self.count_tiles(items)))
        return {name: inputs[name][tiles] for name in ("pixel_values", "spatial_shapes", "pixel_attention_mask")}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """A marker before every tile and before an overview beside tiles, others at an image's start and end."""
        token, marks = [config.image_token_id], [config.image_token_id + mark for mark in TILE_MARKS]
        if config.image_token_id != IMAGE_TOKEN:
            marks = [*range(310, 315), 315, 316, 317]
        *numbered, overview, start, end = marks
        for (rows, columns), (h, w) in LAYOUTS:
            count = rows * columns if rows * columns > 1 else 0
            if count * TILE[0] * TILE[1] + h * w == tokens:
                tiles = [i for n in range(count) for i in (numbered[n], *token * (TILE[0] * TILE[1]))]
                return [start, *tiles, *([overview] if count else []), *token * (h * w), end]
        raise AssertionError(f"No image has {tokens} tokens.")


# (h, w) in patches of an overview (or frame) and of its slices, which lie in rows of two: each image has another number
# of patches. 4 x 4 patches make a token, or 2 x 2 where the tower merges nothing.
IMAGES: dict[str, tuple[tuple[tuple[int, int], ...], ...]] = {
    "image": (((8, 12),), ((12, 12), (4, 8), (4, 8)), ((8, 8),), ((8, 8), *((8, 4),) * 4)),
    "video": (((8, 8),), ((8, 8),), ((12, 8),)),
}
MARKS = {"image_start": 310, "image_end": 311, "slice_start": 312, "slice_end": 313}
NEWLINE = 19


class TinyMiniCPMV(TinyTiledFamily):
    """Tiny models of `MiniCPMV`."""

    def crops(self, modality: str, numbers: range) -> list[tuple[int, int]]:
        """(h, w) of all crops of these images or frames."""
        images = IMAGES[modality]
        return [crop for number in numbers for crop in images[number % len(images)]]

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Crops of different sizes."""
        sizes = torch.tensor(self.crops(modality, range(sum(rows))))
        side = config.vision_config.patch_size
        strip = torch.randn(1, 3, side, side * int(sizes.prod(-1).sum()), generator=rng)
        return {self.main_inputs[modality]: strip, SIZE_INPUTS[modality]: sizes}

    def encode_inputs(self, model: Any, inputs: Inputs, modality: str) -> Any:
        """The crops of each image joined."""
        encoded = self.family.encode(model, inputs, modality)
        sizes = [len(tokens) for tokens in self.family.features(encoded, modality)]
        images: list[int] = []
        start = 0
        while start < len(sizes):
            count = len(IMAGES[modality][len(images) % len(IMAGES[modality])])
            images.append(sum(sizes[start : start + count]))
            start += count
        return self.family.regroup(encoded, images)

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The crops' part of the strip."""
        sizes, strip = inputs[SIZE_INPUTS[modality]], inputs[self.main_inputs[modality]]
        first = len(self.crops(modality, range(items.start)))
        own = slice(first, first + len(self.crops(modality, items)))
        ends = [0, *(sizes.prod(-1).cumsum(0) * config.vision_config.patch_size).tolist()]
        return {
            self.main_inputs[modality]: strip[..., ends[own.start] : ends[own.stop]],
            SIZE_INPUTS[modality]: sizes[own],
        }

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Markers around every crop, others around slices, and a line end between rows of slices."""
        crops = next(one for one in IMAGES[modality] if sum(map(prod, one)) in (4 * tokens, 16 * tokens))
        side = sum(map(prod, crops)) // tokens
        ids = []
        for number, crop in enumerate(crops):
            kind = "slice" if number else "image"
            names = (f"{kind}_{name}" for name in ("start", "end"))
            start, end = (getattr(config, f"{name}_id", MARKS[name]) for name in names)
            ids += [*([NEWLINE] if number == 3 else []), start]
            ids += [*[self.family.token_id(config, modality)] * (prod(crop) // side), end]
        return ids
