"""What a command names: image files and pages of them, standard input, addresses, clips, and folders of images."""

from __future__ import annotations

import os.path
import re
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from foveate.errors import InputError
from foveate.runtime.fetch import fetch_file
from foveate.runtime.pages import Range, parse_pages, read_pages
from foveate.runtime.video import SUFFIXES, TimedFrame, read_clip

if TYPE_CHECKING:
    from foveate.runtime.media import Seen

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # a drive of Windows has one letter
PAGES = re.compile(r"(?P<name>.+)#page=(?P<pages>.*)", re.DOTALL)
IMAGES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm", ".pdf")
)
"""Endings of what a folder is searched for."""


def open_images(text: str, *, fetch: bool = False) -> list[Image.Image]:
    """The images that an argument stands for: a file, pages of one (`scan.pdf#page=1,3-5`), or "-", standard input.

    Args:
        text: The argument. A file whose whole name it is goes before pages.
        fetch: Whether an https address is fetched.

    Returns:
        One image, or one for each page.

    Raises:
        InputError: Pages that are not there, several of which none is named, or an address that is not fetched.
        ImageError: There is no such file, or it is no image, damaged or too large.
    """
    name, pages = _split_pages(text)
    if Path(name).suffix.lower() in SUFFIXES:
        raise InputError(f"{name} is a video: ask about it with --video {name}.")
    source, label = _open_source(name, "The image", fetch=fetch)
    return read_pages(source, label, pages)


def open_seen(images: Sequence[str], videos: Sequence[str], frames: int, *, fetch: bool = False) -> list[Seen]:
    """All images, then at most so many frames of each video. Raises as `open_images` and `open_clip`."""
    opened: list[Seen] = [image for each in images for image in open_images(each, fetch=fetch)]
    return [*opened, *(open_clip(each, frames, fetch=fetch) for each in videos)]


def open_single_image(option: str, text: str, *, fetch: bool = False) -> Image.Image:
    """The only image that an argument stands for. Raises as `open_images`, and `InputError` for several pages."""
    first, *others = open_images(text, fetch=fetch)
    if others:
        raise InputError(f"{option} {text} names {1 + len(others)} pages: name one.")
    return first


def open_clip(text: str, count: int, *, fetch: bool = False) -> list[TimedFrame]:
    """At most `count` frames of a video file, of "-" or of an address. Raises as `read_clip`, and as `open_images`."""
    source, _ = _open_source(text, "The video", fetch=fetch)
    return read_clip(source, count)


def list_images(folder: Path) -> list[Path]:
    """The images in a folder by name, without those of its folders and hidden ones. Raises `InputError` for none."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read ({error.strerror}): give a readable one.") from error
    images = [each for each in entries if each.suffix.lower() in IMAGES and each.name[0] != "." and each.is_file()]
    if not images:
        raise InputError(f"There is no image in the folder {folder}: give one with files such as .png, .jpg or .pdf.")
    return images


def _split_pages(text: str) -> tuple[str, list[Range] | None]:
    match = PAGES.fullmatch(text)
    if match is None or os.path.exists(os.path.expanduser(text)):
        return text, None
    return match["name"], parse_pages(match["pages"], match["name"])


def _open_source(name: str, kind: str, *, fetch: bool) -> tuple[Path | BinaryIO, str]:
    """The file, and its name in errors."""
    if name == "-":
        return BytesIO(sys.stdin.buffer.read()), f"{kind} on standard input"
    if ADDRESS.match(name) is None:
        return Path(name).expanduser(), name
    if not fetch and name.lower().startswith("https:"):
        raise InputError(f"{name} is an address: add --fetch to fetch it, or download the file, and name that.")
    return BytesIO(fetch_file(name)), name  # which refuses all that is not https
