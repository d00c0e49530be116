"""The region of an image that reaches the model."""

from typing import Any

from PIL import Image


def visible_region(image: Image.Image, image_processor: Any) -> Image.Image:
    """The region of `image` that reaches the model: some processors crop the centre, others pad to a square.

    Padding is part of what the model reads, and is drawn in black.
    """
    width, height = image.size
    if getattr(image_processor, "do_pad", False):
        image = pad_to_square(image)
        width = height = image.width
    crop, size = getattr(image_processor, "crop_size", None), getattr(image_processor, "size", None) or {}
    if not getattr(image_processor, "do_center_crop", False) or not crop:
        return image
    short = _read_length(size, "shortest_edge")
    if short:
        scale_x = scale_y = short / min(width, height)
    else:
        scale_x, scale_y = _read_length(size, "width") / width, _read_length(size, "height") / height
    half_x, half_y = _read_length(crop, "width") / scale_x / 2, _read_length(crop, "height") / scale_y / 2
    return image.crop(
        (round(width / 2 - half_x), round(height / 2 - half_y), round(width / 2 + half_x), round(height / 2 + half_y))
    )


def pad_to_square(image: Image.Image) -> Image.Image:
    """The image in the middle of a black square."""
    side = max(image.size)
    left, top = (side - image.width) // 2, (side - image.height) // 2
    return image.crop((-left, -top, side - left, side - top))


def _read_length(size: Any, name: str) -> float:
    value = size.get(name) if hasattr(size, "get") else getattr(size, name, None)
    return float(value or 0)
