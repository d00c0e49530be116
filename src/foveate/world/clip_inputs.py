"""Inputs of a clip for Qwen2.5-VL, without a video processor."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor


def make_clip_pixels(image_processor: Any, frames: Sequence[Image.Image]) -> dict[str, Tensor]:
    """Make what Qwen's video processor makes of frames, by its image processor.

    The image processor takes an image as two equal frames, so the two halves of a patch come from two images here.

    Args:
        image_processor: Qwen's image processor.
        frames: An even number of images of one size.

    Returns:
        pixel_values_videos (patches, values) and video_grid_thw (1, 3).
    """
    times = image_processor.temporal_patch_size
    encoded = image_processor(list(frames), return_tensors="pt")
    _, rows, columns = encoded["image_grid_thw"][0].tolist()
    parts = encoded["pixel_values"].unflatten(0, (len(frames) // times, times, rows * columns))
    parts = parts.unflatten(-1, (3, times, -1))  # (moment, frame, patch, channel, time, pixel)
    mixed = torch.stack([parts[:, time, :, :, time] for time in range(times)], dim=3)
    grid = torch.tensor([[len(frames) // times, rows, columns]])
    return {"pixel_values_videos": mixed.flatten(0, 1).flatten(1), "video_grid_thw": grid}
