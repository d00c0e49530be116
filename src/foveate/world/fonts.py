"""The fonts of documents, which matplotlib carries."""

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import ImageFont

from foveate.errors import InputError
from foveate.runtime.late import import_late

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSansMono", "DejaVuSans-Oblique")


def import_matplotlib(part: str = "matplotlib") -> Any:
    """Import a part of matplotlib. Raises `InputError` if it is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("Documents and diagrams are drawn with matplotlib: pip install 'foveate[eval]'.")
    return import_late(part)


@lru_cache(maxsize=256)
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Load one of `FONTS` in a size in pixels. Text is laid out glyph by glyph, the same on every machine."""
    folder = Path(import_matplotlib().get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"{name}.ttf", size, layout_engine=ImageFont.Layout.BASIC)
