"""Pictures that come with a request: as data URLs, or from places that the server was told to fetch from."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import urlsplit

import httpx
from PIL import Image

from foveate.picture import decode_picture
from foveate.serve.errors import Refused

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")  # decoders that read untrusted files well, and that OpenAI's protocol names
DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*(?P<base64>;base64)?,", re.IGNORECASE)
HEAD = 256  # letters within which a data URL's data must begin
FETCH_SECONDS = 10.0


@dataclass(frozen=True)
class Source:
    """Where pictures may come from, and how large they may be.

    `pixels` and `size` (in bytes) are limits for one picture; `origins` ("https://host", "http://host:port") are the
    only places that are fetched from.
    """

    pixels: int
    size: int
    origins: tuple[str, ...] = ()

    def read(self, url: str) -> bytes:
        """The picture file behind a URL, of a format that is known and with no more pixels than allowed.

        Raises `Refused`.
        """
        if url[:5].lower() == "data:":
            data = _unpacked(url)
        elif "://" in url:
            data = self._fetched(url)
        else:
            raise Refused(400, "image_url is no URL: send the picture as data:image/png;base64,...", param="messages")
        self._check(data)
        return data

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
                data = bytearray()
                for part in answer.iter_bytes():
                    data += part
                    if len(data) > self.size:
                        raise Refused(413, f"The picture at {url} has more than {self.size} bytes.", param="messages")
        except httpx.HTTPError as error:
            raise failed from error
        return bytes(data)

    def _check(self, data: bytes) -> None:
        """Look at the header alone."""
        try:
            with Image.open(BytesIO(data), formats=FORMATS) as picture:
                width, height = picture.size
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise self._too_large() from error
        except Exception as error:  # a decoder fed with a damaged file may raise anything
            raise Refused(
                400, f"This is no picture that can be read: send {', '.join(FORMATS)}.",
                code="invalid_image", param="messages",
            ) from error  # fmt: skip
        if width * height > self.pixels:
            raise self._too_large()

    def _too_large(self) -> Refused:
        return Refused(
            413, f"The picture has more than {self.pixels} pixels, which is this server's limit: scale it down.",
            code="image_too_large", param="messages",
        )  # fmt: skip


def opened(files: Sequence[bytes]) -> list[Image.Image]:
    """The pictures in files that `Source.read` has let through. Raises `PictureError` for damaged ones."""
    return [decode_picture(data) for data in files]


def _unpacked(url: str) -> bytes:
    head = DATA_URL.match(url[:HEAD])
    if head is None or not head["base64"] or not (head["type"] or "").lower().startswith("image/"):
        raise Refused(
            400, "A picture's data URL begins with data:image/png;base64, (or another image type).",
            code="invalid_image", param="messages",
        )  # fmt: skip
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(
            400, "The picture's base64 is broken: encode the whole file, without line breaks.",
            code="invalid_image", param="messages",
        ) from error  # fmt: skip
