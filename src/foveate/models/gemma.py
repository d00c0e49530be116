"""Gemma 3, Gemma 3n, Gemma 4 and PaliGemma: a square of pooled tokens for each image."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family, Features, Grids, Inputs
from foveate.models.overview import is_overview
from foveate.models.prompt_rows import PromptRow, Starts
from foveate.models.template import Template, open_with
from foveate.models.tiling import TiledFamily
from foveate.models.visual_input import Grid

GEMMA_VOCABULARY = 262144
WORDS = 4  # ids that the words between an image and its first crop have at least
START_OF_TURN, BLANK_LINE = 105, 108  # of Gemma 3 and 4; no configuration names them
SYSTEM_END = 110  # two blank lines: the template's behind the system's words, the processor's before an image


class Gemma(Family):
    """What the prompts of Gemma 3 and its successors share."""

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """As configured; a turn opens with Gemma's own token, and blank lines stand around images."""
        plain = super().template(config, stop_ids)
        if config.get_text_config().vocab_size < GEMMA_VOCABULARY:
            return plain
        return replace(open_with(START_OF_TURN, plain, filler=[BLANK_LINE]), system_ends=frozenset({SYSTEM_END}))


class PanAndScan(TiledFamily, Gemma):
    """An image may be followed by crops of itself; pixels tell whether the images after it are such crops."""

    traits = replace(TiledFamily.traits, overview="first", reuse="image")

    def find_starts(self, config: Any, inputs: Inputs, row: PromptRow) -> Starts:
        """The processor puts many words between an image and its crops, and the same few ids between two crops."""
        starts: list[bool] = []
        while len(starts) < len(row.runs):
            n, count = len(starts), 1
            while n + count < len(row.runs) and (count < 2 or row.before(n + count) == row.before(n + 2)):
                count += 1
            if count > 2 and len(row.before(n + 1)) >= len(row.before(n + 2)) + WORDS:
                shown = self._shows_crops(inputs, row.first + n, count)
                if shown is None:
                    return None
                count = count if shown else 1
            else:
                count = 1
            starts += [True, *[False] * (count - 1)]
        return starts

    def _shows_crops(self, inputs: Inputs, first: int, count: int) -> bool | None:
        """Whether an image shows the ones after it side by side or one below the other; None where no pixels tell."""
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return None
        overview, *crops = pixels[first : first + count]
        answers = [is_overview(crops, overview, rows) for rows in (1, len(crops))]
        return None if None in answers else any(answers)


class Gemma3(PanAndScan):
    """Gemma 3; images attend to themselves in both directions, local windows, crops where pixels tell them."""


class Gemma3n(Gemma):
    """Gemma 3n; embeddings for every layer, local windows; audio passes through."""


class Gemma4(Gemma):
    """Gemma 4; any aspect ratio, embeddings for every layer, experts, local windows; audio passes through."""

    traits = replace(Gemma.traits, versions=">=5.23", modalities=("image", "video"), reuse="image")

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """As the places of the patches say; a video's frames are all of one shape."""
        places = inputs.get(f"{modality}_position_ids")
        if places is None:
            return [None] * len(features)
        counts = inputs["num_frames_per_video"].tolist() if modality == "video" else [1] * len(features)
        firsts = torch.tensor([0, *counts[:-1]]).cumsum(0).tolist()
        sides = (places.amax(1) + 1).tolist()  # of every image or frame, in patches: (w, h)
        grids: list[Grid | None] = []
        for feature, first, frames in zip(features, firsts, counts, strict=True):
            w, h = sides[first]
            pool = math.isqrt(frames * w * h // len(feature))
            grids.append((frames, h // pool, w // pool))
        return grids


class Gemma4Unified(Gemma4):
    """Gemma 4 without towers: patches go straight into the language model; audio passes through."""


class PaliGemma(Family):
    """PaliGemma and PaliGemma 2; the whole prompt attends to itself in both directions."""

    traits = replace(Family.traits, reuse="nothing")

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """Counted from 1, as its `forward` does."""
        return super().positions(model, inputs, mask) + 1

    def token_types(self, config: Any, inputs: Inputs) -> Tensor:
        """0 for all of the prompt, images too; 1 marks the answers that a loss is taken on."""
        return torch.zeros_like(inputs["input_ids"])
