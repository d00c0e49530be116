"""Aya Vision, Command A Vision, InternVL and Qianfan-OCR: square tiles, the overview last."""

from dataclasses import replace
from typing import Any

from foveate.models.base import Inputs
from foveate.models.prompt_rows import PromptRow, Starts, starts_after_breaks, starts_between_ends
from foveate.models.tiling import TiledFamily


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
