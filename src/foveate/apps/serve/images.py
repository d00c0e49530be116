"""Images of a request: data URLs, or files from origins that the server may fetch from."""

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

from foveate.apps.serve.errors import RequestError
from foveate.runtime.files import decode_image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")  # named by OpenAI's protocol, with decoders hardened for untrusted files
DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*(?P<base64>;base64)?,", re.IGNORECASE)
HEAD = 256  # maximum length of a data URL before its data, in characters
FETCH_SECONDS = 10.0
MAX_ASPECT = 50  # longer side over shorter side


@dataclass(frozen=True)
class ImageSource:
    """Reads image files from data URLs and from `origins` such as "https://host" or "http://host:port".

    `pixels` limits all images of a request together, `size` the bytes of a fetched file.
    """

    pixels: int
    size: int
    origins: tuple[str, ...] = ()

    def read(self, urls: Sequence[str]) -> list[bytes]:
        """The image files behind URLs, with format and pixel count checked. Raises `RequestError`."""
        files, pixels = [], 0
        for url in urls:
            files.append(self._read(url))
            pixels += _count_pixels(files[-1])
            if pixels > self.pixels:
                raise _too_large(f"than {self.pixels} pixels, which is this server's limit: scale them down.")
        return files

    def _read(self, url: str) -> bytes:
        if url[:5].lower() == "data:":
            return _decode_data_url(url)
        if "://" in url:
            return self._fetch(url)
        raise RequestError(400, "image_url is no URL: send the image as data:image/png;base64,...", param="messages")

    def _fetch(self, url: str) -> bytes:
        try:
            parts = urlsplit(url)
            origin = f"{parts.scheme}://{parts.netloc}".lower()
        except ValueError:
            origin = ""
        if origin not in self.origins:
            message = "This server does not fetch images from there: send the image as data:image/png;base64,..."
            raise RequestError(400, message, code="remote_url", param="messages")
        failed = RequestError(400, f"The image at {url} could not be fetched.", code="remote_url", param="messages")
        try:
            with httpx.stream("GET", url, timeout=FETCH_SECONDS, follow_redirects=False, trust_env=False) as response:
                if response.status_code != 200:
                    raise failed
                data, end = bytearray(), time.monotonic() + FETCH_SECONDS
                for part in response.iter_bytes():
                    if time.monotonic() > end:
                        raise failed
                    data += part
                    if len(data) > self.size:
                        message = f"The image at {url} has more than {self.size} bytes."
                        raise RequestError(413, message, param="messages")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise failed from error
        return bytes(data)


def _count_pixels(data: bytes) -> int:
    """The number of pixels by the file's header. Raises `RequestError` for other files and for very thin images."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(f"than {Image.MAX_IMAGE_PIXELS} pixels: scale them down.") from error
    except Exception as error:  # decoders raise anything on a damaged file
        raise _invalid(f"This is no readable image file: send {', '.join(FORMATS)}.") from error
    if max(width, height) > MAX_ASPECT * min(width, height):  # some processors scale the shorter side up
        raise _invalid(f"An image of {width} x {height} pixels is too thin: crop it to less than {MAX_ASPECT} to 1.")
    return int(width * height)


def _too_large(text: str) -> RequestError:
    return RequestError(413, f"The images have more {text}", code="image_too_large", param="messages")


def _invalid(text: str) -> RequestError:
    return RequestError(400, text, code="invalid_image", param="messages")


def decode_images(files: Sequence[bytes]) -> list[Image.Image]:
    """Decode files that `ImageSource.read` returned. Raises `ImageError` for damaged ones."""
    return [decode_image(data) for data in files]


def _decode_data_url(url: str) -> bytes:
    head = DATA_URL.match(url[:HEAD])
    if head is None or not head["base64"] or not (head["type"] or "").lower().startswith("image/"):
        raise _invalid("An image's data URL begins with data:image/png;base64, (or another image type).")
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid("The image's base64 is broken: encode the whole file, without line breaks.") from error
