"""Pictures that come with a request: as data URLs, or from places that the server was told to fetch from."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import urlsplit

import httpx
from PIL import Image

from foveate.apps.serve.errors import Refused
from foveate.runtime.files import decode_image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")  # decoders that read untrusted files well, and that OpenAI's protocol names
DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*(?P<base64>;base64)?,", re.IGNORECASE)
HEAD = 256  # letters within which a data URL's data must begin
FETCH_SECONDS = 10.0
LONGEST = 50  # times as long as wide


@dataclass(frozen=True)
class Source:
    """Where pictures may come from, and how large they may be.

    `pixels` are a limit for all pictures of a request together, `size` (in bytes) for each; `origins` ("https://host",
    "http://host:port") are the only places that are fetched from.
    """

    pixels: int
    size: int
    origins: tuple[str, ...] = ()

    def read(self, urls: Sequence[str]) -> list[bytes]:
        """The picture files behind URLs, of formats that are known and with no more pixels than allowed.

        Raises `Refused`.
        """
        files, pixels = [], 0
        for url in urls:
            files.append(self._read(url))
            pixels += _pixels(files[-1])
            if pixels > self.pixels:
                raise _too_large(f"than {self.pixels} pixels, which is this server's limit: scale down what you send.")
        return files

    def _read(self, url: str) -> bytes:
        if url[:5].lower() == "data:":
            return _unpacked(url)
        if "://" in url:
            return self._fetched(url)
        raise Refused(400, "image_url is no URL: send the picture as data:image/png;base64,...", param="messages")

    def _fetched(self, url: str) -> bytes:
        try:
            parts = urlsplit(url)
            origin = f"{parts.scheme}://{parts.netloc}".lower()
        except ValueError:
            origin = ""
        if origin not in self.origins:
            raise Refused(
                400, "This server does not fetch pictures from there: send the picture as data:image/png;base64,...",
                code="remote_url", param="messages",
            )  # fmt: skip
        failed = Refused(400, f"The picture at {url} could not be fetched.", code="remote_url", param="messages")
        try:
            with httpx.stream("GET", url, timeout=FETCH_SECONDS, follow_redirects=False, trust_env=False) as answer:
                if answer.status_code != 200:
                    raise failed
                data, end = bytearray(), time.monotonic() + FETCH_SECONDS
                for part in answer.iter_bytes():
                    if time.monotonic() > end:
                        raise failed
                    data += part
                    if len(data) > self.size:
                        raise Refused(413, f"The picture at {url} has more than {self.size} bytes.", param="messages")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise failed from error
        return bytes(data)


def _pixels(data: bytes) -> int:
    """How many there are, by the header alone."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(f"than {Image.MAX_IMAGE_PIXELS} pixels: scale it down.") from error
    except Exception as error:  # a decoder fed with a damaged file may raise anything
        raise _invalid(f"This is no picture that can be read: send {', '.join(FORMATS)}.") from error
    if max(width, height) > LONGEST * min(width, height):  # some processors scale the shorter side up
        raise _invalid(f"A picture of {width} x {height} pixels is too thin: cut it to less than {LONGEST} to 1.")
    return int(width * height)


def _too_large(text: str) -> Refused:
    return Refused(413, f"The pictures have more {text}", code="image_too_large", param="messages")


def _invalid(text: str) -> Refused:
    return Refused(400, text, code="invalid_image", param="messages")


def opened(files: Sequence[bytes]) -> list[Image.Image]:
    """The pictures in files that `Source.read` has let through. Raises `ImageError` for damaged ones."""
    return [decode_image(data) for data in files]


def _unpacked(url: str) -> bytes:
    head = DATA_URL.match(url[:HEAD])
    if head is None or not head["base64"] or not (head["type"] or "").lower().startswith("image/"):
        raise _invalid("A picture's data URL begins with data:image/png;base64, (or another image type).")
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid("The picture's base64 is broken: encode the whole file, without line breaks.") from error
