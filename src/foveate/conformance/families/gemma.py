"""Gemma 4 and T5Gemma 2."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.cross import TinyEncoderDecoder
from foveate.conformance.families.patches import TinyFramesApart
from foveate.conformance.families.tiled import TinyGemma

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


class TinyT5Gemma2(TinyEncoderDecoder, TinyGemma):
    """Tiny models of `T5Gemma2`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Any) -> list[int]:
        """With the markers of the encoder's configuration."""
        return super().prompt_ids(config.encoder, modality, tokens, grid)

    def randomize_zeros(self, model: Any) -> None:
        """The projector and the end marker start at zero."""
        encoder = model.get_encoder()
        encoder.multi_modal_projector.mm_input_projection_weight.normal_()
        model.get_input_embeddings().eoi_embedding.normal_()

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """As the encoder's configuration says."""
        return super().make_inputs(config.encoder, modality, rows, rng)
