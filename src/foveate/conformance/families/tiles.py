"""Aya Vision, Command A Vision, InternVL, Qianfan-OCR, GOT-OCR 2, Ovis2 and Llama 4: tiles of one size."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.tiling import Layout, TinyTiledFamily, show_overview


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
        done = 0
        for number in range(sum(rows)):
            count = self.count_tiles(range(number, number + 1))[0]
            tiles = made["pixel_values"][done : done + count]
            if count > 1:
                show_overview(tiles[:-1], tiles[-1], self.layout(number))
            done += count
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
