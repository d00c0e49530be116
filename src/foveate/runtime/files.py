"""`open_image`: a picture file as the RGB picture that a person would see."""

from __future__ import annotations

import os
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from foveate.errors import ImageError

DEEP_RANGES = {"I;16": 65535.0, "I;16L": 65535.0, "I;16B": 65535.0, "I;16N": 65535.0}
STRETCHED = ("I", "F")  # 32-bit integers and floats have no agreed white


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Read a picture file as RGB, upright (EXIF orientation), its first frame, transparency on white.

    16-bit grey is scaled to 8 bits; 32-bit integers and floats are stretched from their smallest to their largest
    value. Pictures above Pillow's `Image.MAX_IMAGE_PIXELS` (about 89 million pixels) are refused, as they may be
    decompression bombs.

    Raises `ImageError` if there is no such file, or if it is no picture, damaged or too large.
    """
    return _opened(Path(path).expanduser(), str(path))


def decode_image(data: bytes) -> Image.Image:
    """The picture in the bytes of a picture file; all else is as with `open_image`."""
    return _opened(BytesIO(data), "The picture's data")


def _opened(source: Path | BytesIO, name: str) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata that changes no pixel
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(source) as picture:
                return _rgb(_upright(picture))
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ImageError(
                f"{name} has more than {Image.MAX_IMAGE_PIXELS} pixels: scale it down, "
                "or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."
            ) from error
        except FileNotFoundError as error:
            raise ImageError(f"There is no picture {name}: check the path.") from error
        except (IsADirectoryError, PermissionError) as error:
            raise ImageError(f"{name} cannot be read ({error.strerror}): give a readable picture file.") from error
        except UnidentifiedImageError as error:
            raise ImageError(f"{name} is no picture that Pillow knows: give a PNG, JPEG, WebP, ... file.") from error
        except ImageError:
            raise
        except Exception as error:  # a decoder fed with a damaged file may raise anything
            raise ImageError(f"{name} is damaged or cut short ({error}): save or download it again.") from error


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # the pixels are sound; an orientation that cannot be read is none
        return picture


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in DEEP_RANGES:
        return _grey(np.asarray(picture), 0.0, DEEP_RANGES[picture.mode])
    if picture.mode in STRETCHED:
        values = np.asarray(picture)
        if not np.isfinite(values).all():
            raise ImageError("The picture holds NaN or infinity: save it with finite values.")
        return _grey(values, float(values.min()), float(values.max()))
    if picture.has_transparency_data or picture.mode in ("RGBa", "La"):
        clear = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return picture.convert("RGB")


def _grey(values: np.ndarray, low: float, high: float) -> Image.Image:
    share = (values.astype(np.float64) - low) / max(high - low, 1e-12)
    return Image.fromarray((share * 255).round().astype(np.uint8)).convert("RGB")
