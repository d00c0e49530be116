"""Muse: markers around images and between frames; audios."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.patches import TinyPatches
from foveate.models.visual_input import Grid

START, SEPARATOR, END = 31, 32, 33  # any three text tokens stand for these
SAMPLES = (40, 24)  # of the audios


class TinyMuseGlimmer(TinyPatches):
    """Tiny models of `MuseGlimmer`."""

    def patch_shape(self, config: Any) -> tuple[int, ...]:
        """Of two frames."""
        vision = config.vision_config
        return (3 * vision.patch_temporal * vision.patch_size**2,)

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Markers at both ends; in a video a timestamp before every frame and a separator after it."""
        frames = grid[0] if grid is not None and modality == "video" else 1
        ids = [self.family.token_id(config, modality)] * (tokens // frames)
        if modality != "video":
            return [START, *ids, END]
        return [START, *(i for n in range(frames) for i in (20 + n, 19, *ids, SEPARATOR if n < frames - 1 else END))]


class TinyMuseSpark(TinyMuseGlimmer):
    """Tiny models of `MuseSpark`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Audios padded to the longest."""
        if modality != "audio":
            return super().make_inputs(config, modality, rows, rng)
        lengths = torch.tensor([SAMPLES[i % len(SAMPLES)] for i in range(sum(rows))])
        mask = torch.arange(max(SAMPLES)) < lengths[:, None]
        waves = torch.randn(mask.shape, generator=rng)
        return {"input_values": waves, "input_values_mask": mask.long()}
