"""Gemma 4: padded patches of images and frames, with their positions beside them."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.gemma3 import TinyGemma
from foveate.conformance.families.patches import TinyFramesApart

SIDES = {"image": ((2, 3), (3, 3), (2, 2), (4, 2)), "video": ((2, 2), (2, 3))}  # (h, w) in tokens
FRAMES = (2, 3)


class TinyGemma4(TinyFramesApart, TinyGemma):
    """Tiny models of `Gemma4`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images and videos of different shapes, padded with patches at (-1, -1)."""
        side, pool = self.patch(config)
        number = range(sum(rows))
        shapes = [SIDES[modality][i % len(SIDES[modality])] for i in number]
        frames = [FRAMES[i % len(FRAMES)] if modality == "video" else 1 for i in number]
        longest = max(h * w for h, w in SIDES[modality]) * pool**2
        places = []
        for count, (h, w) in zip(frames, shapes, strict=True):
            grid = torch.cartesian_prod(torch.arange(h * pool), torch.arange(w * pool)).flip(-1)
            padding = torch.full((longest - len(grid), 2), -1)
            places += [torch.cat([grid, padding])] * count
        pixels = torch.rand(len(places), longest, 3 * side**2, generator=rng)
        made = {self.main_inputs[modality]: pixels, f"{modality}_position_ids": torch.stack(places)}
        return made | ({"num_frames_per_video": torch.tensor(frames)} if modality == "video" else {})

    def patch(self, config: Any) -> tuple[int, int]:
        """The side of a patch in pixels, and how many of them a token is wide."""
        return config.vision_config.patch_size, config.vision_config.pooling_kernel_size


class TinyGemma4Unified(TinyGemma4):
    """Tiny models of `Gemma4Unified`."""

    def patch(self, config: Any) -> tuple[int, int]:
        """The processor merges patches already."""
        return config.vision_config.model_patch_size, 1
