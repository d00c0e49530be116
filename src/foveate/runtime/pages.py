"""`read_pages`: pages of a PDF (needs `foveate[pdf]`) or a TIFF file by their numbers, or any other image file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from foveate.errors import ImageError, InputError
from foveate.runtime.files import open_pages
from foveate.runtime.late import import_late

Range = tuple[int, int]
"""The first and the last page, counted from 1."""

RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)
DPI, LONGEST = 200, 4000  # dots per inch of a drawn page, and pixels of its longer side at most
POINTS = 72  # of a PDF's canvas in an inch
MAGIC, HEAD = b"%PDF-", 1024  # PDF 32000-1, annex H: readers look for it in so many bytes
PASSWORD = 4  # FPDF_ERR_PASSWORD


def parse_pages(text: str, name: str) -> list[Range]:
    """`"1,3-5"` as ranges. Raises `InputError` for anything else."""
    ranges = []
    for part in text.split(","):
        match = RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise InputError(f"{name}#page={text} names no pages: they count from 1, as in {name}#page=1,3-5.")
        ranges.append((first, last))
    return ranges


def read_pages(source: Path | BinaryIO, name: str, pages: Sequence[Range] | None = None) -> list[Image.Image]:
    """The pages of a file as RGB, upright, in the order in which they are named.

    A page of a PDF is drawn on white with 200 dots per inch, its longer side with at most 4000 pixels. Animations are
    one page, their first frame.

    Args:
        source: The path of a file, or an open binary file.
        name: Its name in errors.
        pages: Ranges of pages; None for the only one.

    Returns:
        An image for each page.

    Raises:
        InputError: `pages` is None and there are several, or there are fewer, or pypdfium2 is not installed.
        ImageError: There is no such file, or it cannot be read.
    """
    if _is_pdf(source, name):
        with _open_pdf(source, name) as document:
            return [_draw_page(document, number) for number in _choose_pages(len(document), name, pages)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata that changes no pixel
        return open_pages(source, name, partial(_choose_frames, name=name, pages=pages))


def _choose_frames(image: Image.Image, name: str, pages: Sequence[Range] | None) -> list[int]:
    return _choose_pages(getattr(image, "n_frames", 1) if image.format == "TIFF" else 1, name, pages)


def _choose_pages(count: int, name: str, pages: Sequence[Range] | None) -> list[int]:
    """Numbers of pages, counted from 0."""
    if not count:
        raise ImageError(f"{name} has no pages: save or download it again.")
    if pages is None:
        if count > 1:
            raise InputError(f"{name} has {count} pages: name one, as in {name}#page=1, or all, as #page=1-{count}.")
        return [0]
    most = max(last for _, last in pages)
    if most > count:
        has = "one page" if count == 1 else f"{count} pages"
        raise InputError(f"{name} has {has}, and no page {most}: name one that it has.")
    return [number - 1 for first, last in pages for number in range(first, last + 1)]


def _is_pdf(source: Path | BinaryIO, name: str) -> bool:
    """By the first bytes or the name. A file that cannot be read is left to Pillow, whose errors are named."""
    try:
        if isinstance(source, Path):
            with source.open("rb") as file:
                head = file.read(HEAD)
        else:
            head = source.read(HEAD)
            source.seek(0)
    except OSError:
        return False
    return MAGIC in head or name.lower().endswith(".pdf")


@contextmanager
def _open_pdf(source: Path | BinaryIO, name: str) -> Iterator[Any]:
    try:
        pdfium = import_late("pypdfium2")
    except ImportError as error:
        raise InputError("Pages of a PDF are drawn with pypdfium2: pip install 'foveate[pdf]'.") from error
    try:
        document = pdfium.PdfDocument(source)
    except pdfium.PdfiumError as error:
        if error.err_code == PASSWORD:
            raise ImageError(f"{name} needs a password: save it without one.") from error
        raise ImageError(f"{name} is no PDF that can be read: save or download it again.") from error
    try:
        document.init_forms()  # before the pages: what was typed into a form is drawn too
        yield document
    except pdfium.PdfiumError as error:
        raise ImageError(f"A page of {name} is damaged ({error}): save or download it again.") from error
    finally:
        document.close()


def _draw_page(document: Any, number: int) -> Image.Image:
    page = document[number]
    scale = min(DPI / POINTS, LONGEST / max(*page.get_size(), 1.0))
    image: Image.Image = page.render(scale=scale).to_pil().convert("RGB")
    page.close()
    return image
