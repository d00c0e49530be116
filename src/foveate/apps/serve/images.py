"""Images of a request: data URLs, or files from origins that the server may fetch from."""

import asyncio
import base64
import binascii
import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from urllib.parse import urlsplit

import httpx
from PIL import Image

from foveate.apps.serve.errors import RequestError
from foveate.errors import ImageError
from foveate.runtime.files import decode_image
from foveate.runtime.image_cache import LazyImage

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")  # named by OpenAI's protocol, with decoders hardened for untrusted files
DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*(?P<base64>;base64)?,", re.IGNORECASE)
HEAD = 256  # maximum length of a data URL before its data, in characters
FETCH_SECONDS = 10.0  # for all images of a request
DECODE_SECONDS = 10.0  # of a processor core, for all images of a request
MAX_ASPECT = 50  # longer side over shorter side


@dataclass(frozen=True)
class ImageSource:
    """Reads image files from data URLs and from `origins` such as "https://host" or "http://host:port".

    `pixels` limits all images of a request together, `size` the bytes of a fetched file.
    """

    pixels: int
    size: int
    origins: tuple[str, ...] = ()

    async def fetch(self, urls: Sequence[str]) -> dict[str, bytes]:
        """The files behind those URLs that are no data URLs. Raises `RequestError`."""
        remote = list(dict.fromkeys(url for url in urls if url[:5].lower() != "data:"))
        for url in remote:
            self._check_origin(url)
        if not remote:
            return {}
        try:
            return await asyncio.wait_for(self._fetch_all(remote), FETCH_SECONDS)
        except TimeoutError as error:
            raise _not_fetched(f"The images could not be fetched within {FETCH_SECONDS:g} seconds.") from error

    def read(self, urls: Sequence[str], fetched: Mapping[str, bytes] | None = None) -> list[bytes]:
        """The image files behind URLs, with format and pixel count checked. Raises `RequestError`."""
        files, pixels, timer = [], 0, DecodeTimer()
        for url in urls:
            files.append(decode_data_url(url) if url[:5].lower() == "data:" else (fetched or {})[url])
            pixels += _count_pixels(TimedFile(files[-1], timer))
            if pixels > self.pixels:
                raise _too_large(f"than {self.pixels} pixels, which is this server's limit: scale them down.")
        return files

    def _check_origin(self, url: str) -> None:
        if "://" not in url:
            message = "image_url is no URL: send the image as data:image/png;base64,..."
            raise RequestError(400, message, param="messages")
        try:
            parts = urlsplit(url)
            origin = f"{parts.scheme}://{parts.netloc}".lower()
        except ValueError:
            origin = ""
        if origin not in self.origins:
            raise _not_fetched(
                "This server does not fetch images from there: send the image as data:image/png;base64,..."
            )

    async def _fetch_all(self, urls: Sequence[str]) -> dict[str, bytes]:
        async with httpx.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False, trust_env=False) as client:
            return {url: await self._fetch(client, url) for url in urls}

    async def _fetch(self, client: httpx.AsyncClient, url: str) -> bytes:
        data = bytearray()
        try:
            async with client.stream("GET", url) as response:
                if response.status_code != 200:
                    raise _not_fetched(f"The image at {url} could not be fetched: check its address.")
                async for part in response.aiter_bytes():
                    data += part
                    if len(data) > self.size:
                        message = f"The image at {url} has more than {self.size} bytes."
                        raise RequestError(413, message, param="messages")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _not_fetched(f"The image at {url} could not be fetched: check its address.") from error
        return bytes(data)


SLOW = f"The images take more than {DECODE_SECONDS:g} seconds to decode: save them as PNG files."


class DecodeTimer:
    """Refuses once a thread has decoded for `DECODE_SECONDS`, or once nobody needs the image."""

    def __init__(self, is_cancelled: Callable[[], bool] = lambda: False, sentence: str = SLOW) -> None:
        self.end, self.is_cancelled, self.sentence = time.thread_time() + DECODE_SECONDS, is_cancelled, sentence

    def check(self) -> None:
        """Raises `ImageError`."""
        if self.is_cancelled() or time.thread_time() > self.end:
            raise ImageError(self.sentence)


class TimedFile(BytesIO):
    """An image file whose decoder is stopped by a timer: it asks for the file piece by piece."""

    def __init__(self, data: bytes, timer: DecodeTimer) -> None:
        super().__init__(data)
        self.timer = timer

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        self.timer.check()
        return super().read(size)


def _count_pixels(file: TimedFile) -> int:
    """The number of pixels by the file's header. Raises `RequestError` for other files and for very thin images."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow opens no image with more
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything on a damaged file
        raise _invalid(f"This is no readable image file: send {', '.join(FORMATS)}.") from error
    if max(width, height) > MAX_ASPECT * min(width, height):  # some processors scale the shorter side up
        raise _invalid(f"An image of {width} x {height} pixels is too thin: crop it to less than {MAX_ASPECT} to 1.")
    return int(width * height)


def _too_large(text: str) -> RequestError:
    return RequestError(413, f"The images have more {text}", code="image_too_large", param="messages")


def _invalid(text: str) -> RequestError:
    return RequestError(400, text, code="invalid_image", param="messages")


def _not_fetched(text: str) -> RequestError:
    return RequestError(400, text, code="remote_url", param="messages")


def open_images(files: Sequence[bytes], is_cancelled: Callable[[], bool] = lambda: False) -> list[LazyImage]:
    """The images of files that `ImageSource.read` returned, decoded when they are opened. These raise `ImageError`."""
    timer = DecodeTimer(is_cancelled)
    return [
        LazyImage(hashlib.sha256(data).hexdigest(), partial(decode_image, TimedFile(data, timer))) for data in files
    ]


def decode_images(files: Sequence[bytes], is_cancelled: Callable[[], bool] = lambda: False) -> list[Image.Image]:
    """Decode files that `ImageSource.read` returned. Raises `ImageError` for damaged ones and for slow ones."""
    timer = DecodeTimer(is_cancelled)
    return [decode_image(TimedFile(data, timer)) for data in files]


def decode_data_url(url: str, kind: str = "image", example: str = "image/png") -> bytes:
    """The file in a data URL. Raises `RequestError`."""
    head = DATA_URL.match(url[:HEAD])
    if head is None or not head["base64"] or not (head["type"] or "").lower().startswith(f"{kind}/"):
        raise _invalid(f"The data URL of {kind}s begins with data:{example};base64, (or another {kind} type).")
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(f"The {kind}'s base64 is broken: encode the whole file, without line breaks.") from error
