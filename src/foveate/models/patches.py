"""Images and videos of any size as one long row of flattened patches: `image_grid_thw`, `video_grid_thw`."""

from dataclasses import replace

from foveate.models.base import Family


class Patches(Family):
    """The conventions of Qwen2-VL's processor, which many successors share."""

    traits = replace(Family.traits, modalities=("image", "video"))


class Timestamped(Patches):
    """The conventions of Qwen3-VL's processor: a video's frames stand apart, each after the words of its timestamp."""
