"""What of a picture reaches the model."""

from __future__ import annotations

from typing import Any

from PIL import Image


def seen_part(image: Image.Image, image_processor: Any) -> Image.Image:
    """The part of `image` that reaches the model: CLIP's processor cuts off what lies outside of the central square.

    Where the processor pads instead, the padding is part of what the model sees, here in black.
    """
    width, height = image.size
    if getattr(image_processor, "do_pad", False):
        image = squared(image)
        width = height = image.width
    crop, size = getattr(image_processor, "crop_size", None), getattr(image_processor, "size", None) or {}
    if not getattr(image_processor, "do_center_crop", False) or not crop:
        return image
    short = _get(size, "shortest_edge")
    scale_x, scale_y = (
        (short / min(width, height),) * 2 if short else (_get(size, "width") / width, _get(size, "height") / height)
    )
    half_x, half_y = _get(crop, "width") / scale_x / 2, _get(crop, "height") / scale_y / 2
    return image.crop(
        (round(width / 2 - half_x), round(height / 2 - half_y), round(width / 2 + half_x), round(height / 2 + half_y))
    )


def squared(image: Image.Image) -> Image.Image:
    """The picture in the middle of a square, with black beside it."""
    side = max(image.size)
    left, top = (side - image.width) // 2, (side - image.height) // 2
    return image.crop((-left, -top, side - left, side - top))


def _get(size: Any, name: str) -> float:
    value = size.get(name) if hasattr(size, "get") else getattr(size, name, None)
    return float(value or 0)
