"""GLM-4V: the frames of a video stand as images between two markers."""

from typing import Any

from foveate.conformance.families.patches import TinyPatches
from foveate.conformance.families.shared_placeholders import TinyTogether
from foveate.models.visual_input import Grid


class TinyFrames(TinyPatches):
    """Tiny models of `Frames`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """In a video a text token after each frame."""
        frames = grid[0] if modality == "video" and grid is not None else 1
        one = [config.image_start_token_id, *[config.image_token_id] * (tokens // frames), config.image_end_token_id]
        if modality == "image":
            return one
        video = [token for number in range(frames) for token in (*one, 20 + number)]
        return [config.video_start_token_id, *video, config.video_end_token_id]


class TinyGlm4v(TinyTogether, TinyFrames):
    """Tiny models of `Glm4v`."""
