"""Images and videos of any size as one long row of flattened patches: `image_grid_thw`, `video_grid_thw`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.visual_input import Grid

PATCH_GRIDS = {  # (t, h, w) in patches; merged tokens are a quarter of these with the usual 2 x 2 merge
    "image": ((1, 4, 6), (1, 6, 6), (1, 4, 4), (1, 8, 4)),
    "video": ((2, 4, 4), (3, 4, 6)),
}


class TinyPatches(TinyFamily):
    """Tiny models of `Patches`."""

    patch_grids: ClassVar[Mapping[str, Sequence[tuple[int, int, int]]]] = PATCH_GRIDS
    """(t, h, w) of the images and videos in patches, in turn."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images and videos of different sizes."""
        shapes = self.patch_grids[modality]
        grids = [shapes[i % len(shapes)] for i in range(sum(rows))]
        count = sum(t * h * w for t, h, w in grids)
        pixels = torch.randn(count, *self.patch_shape(config), generator=rng)
        return {self.main_inputs[modality]: pixels, f"{modality}_grid_thw": torch.tensor(grids)}

    def patch_shape(self, config: Any) -> tuple[int, ...]:
        """The shape of one patch."""
        vision = config.vision_config
        return (3 * getattr(vision, "temporal_patch_size", 1) * vision.patch_size**2,)

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The patches of the row's images."""
        grids = inputs[f"{modality}_grid_thw"]
        ends = [0, *grids.prod(-1).cumsum(0).tolist()]
        pixels = inputs[self.main_inputs[modality]][ends[items.start] : ends[items.stop]]
        return {
            self.main_inputs[modality]: pixels,
            f"{modality}_grid_thw": grids[items.start : items.stop],
        }


class TinyFramesApart(TinyFamily):
    """Tiny models of `FramesApart`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """In a video two text tokens before each frame."""
        if modality != "video" or grid is None:
            return super().prompt_ids(config, modality, tokens, grid)
        frame = super().prompt_ids(config, modality, tokens // grid[0], grid)
        return [token for number in range(grid[0]) for token in (20 + number, 19, *frame)]


class TinyTimestamped(TinyFramesApart, TinyPatches):
    """Tiny models of `Timestamped`."""
