"""`open_image`: an image file as upright RGB."""

import math
import os
import re
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from foveate.errors import FoveateError, ImageError

DEEP_RANGES = {"I;16": 65535.0, "I;16L": 65535.0, "I;16B": 65535.0, "I;16N": 65535.0}
STRETCHED = ("I", "F")  # 32-bit integers and floats have no defined white


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Read an image file as RGB, upright (EXIF orientation), its first frame, transparency on white.

    16-bit grey is scaled to 8 bits; 32-bit integers and floats are stretched from their smallest to their largest
    value. Images above Pillow's `Image.MAX_IMAGE_PIXELS` (about 89 million pixels) are refused, as they may be
    decompression bombs.

    Raises `ImageError` if there is no such file, or if it is no image, damaged or too large.
    """
    if re.match(r"https?:/", str(path)):
        raise ImageError(f"{path} is an address, and nothing is fetched: download the image, and name its file.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata that changes no pixel
        return _open(Path(path).expanduser(), str(path))


def decode_image(data: bytes | BinaryIO) -> Image.Image:
    """Read the bytes of an image file, or a file in memory, with the rules of `open_image`.

    For threads: it leaves the filters of warnings alone, which belong to the whole process, so Pillow may warn.
    """
    return _open(BytesIO(data) if isinstance(data, bytes) else data, "The image's data")


def _open(source: Path | BinaryIO, name: str) -> Image.Image:
    return open_pages(source, name, lambda _: [0])[0]


def open_pages(source: Path | BinaryIO, name: str, choose: Callable[[Image.Image], Sequence[int]]) -> list[Image.Image]:
    """Some pages or frames of an image file, counted from 0, each with the rules of `open_image`.

    `name` is that of the file in an error. `choose` looks at the opened file; its `FoveateError` is passed on.
    """
    try:
        with Image.open(source) as image:
            return [_read_page(image, number) for number in choose(image)]
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(
            f"{name} has more than {Image.MAX_IMAGE_PIXELS} pixels: scale it down, "
            "or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."
        ) from error
    except FileNotFoundError as error:
        raise ImageError(f"There is no image {name}: check the path.") from error
    except (IsADirectoryError, PermissionError) as error:
        raise ImageError(f"{name} cannot be read ({error.strerror}): give a readable image file.") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is no image that Pillow can read: give a PNG, JPEG, WebP, ... file.") from error
    except FoveateError:
        raise
    except Exception as error:  # a decoder may raise anything for a damaged file
        raise ImageError(f"{name} is damaged or cut short ({error}): save or download it again.") from error


def _read_page(image: Image.Image, number: int) -> Image.Image:
    if image.tell() != number:
        image.seek(number)
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise Image.DecompressionBombError
    return to_upright_rgb(image)


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """An image in memory with the rules of `open_image`. Raises `ImageError` where its values are not finite."""
    return to_rgb(_rotate_upright(image))


def _rotate_upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are fine; an orientation that cannot be read is ignored
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """An image as RGB, as it lies, transparency on white. Raises `ImageError` where its values are not finite."""
    if image.mode in DEEP_RANGES:
        return _scale_grey(np.asarray(image), 0.0, DEEP_RANGES[image.mode])
    if image.mode in STRETCHED:
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise ImageError("The image contains NaN or infinity: save it with finite values.")
        return _scale_grey(values, float(values.min()), float(values.max()))
    if image.has_transparency_data or image.mode in ("RGBa", "La"):
        clear = image.convert({"La": "LA"}.get(image.mode, "RGBA")).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")


def _scale_grey(values: np.ndarray, low: float, high: float) -> Image.Image:
    share = (values.astype(np.float64) - low) / max(high - low, 1e-12)
    return Image.fromarray((share * 255).round().astype(np.uint8)).convert("RGB")
