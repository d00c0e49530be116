"""What a question of the page is about: an image, or some frames of a clip."""

import base64
import math
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from foveate.apps.demo.request import DemoRequest
from foveate.apps.serve.images import decode_images
from foveate.apps.serve.settings import MEGAPIXEL, ServeLimits
from foveate.apps.serve.videos import decode_videos
from foveate.runtime.image_cache import LazyImage

LIMITS = ServeLimits(waiting=16, pixels=25 * MEGAPIXEL, frames=8)
SHEET_SIDE = 1024  # pixels of the longer side of what the page shows, about, at most


@dataclass(frozen=True, eq=False)
class ShownFile:
    """An image, or frames of a clip with their times in seconds; `key` identifies the file."""

    key: str
    images: tuple[Image.Image, ...]
    times: tuple[float, ...] = (0.0,)

    @property
    def lazy_images(self) -> list[LazyImage]:
        """The images for the cache of encoded ones."""
        return [LazyImage(f"{self.key} {at}", image.copy) for at, image in zip(self.times, self.images, strict=True)]

    @property
    def bytes(self) -> int:
        """The bytes of the decoded images."""
        return sum(image.width * image.height * len(image.getbands()) for image in self.images)

    def thin_out(self, count: int) -> "ShownFile":
        """At most `count` of the frames, evenly from the first to the last one."""
        most = len(self.images) - 1
        if count > most:
            return self
        chosen = [round(n * most / (count - 1)) for n in range(count)] if count > 1 else [0]
        return ShownFile(self.key, tuple(self.images[n] for n in chosen), tuple(self.times[n] for n in chosen))

    def shrink(self) -> list[Image.Image]:
        """The images, small enough for the page side by side."""
        small = [image.copy() for image in self.images]
        for image in small:
            side = SHEET_SIDE // math.ceil(math.sqrt(len(small)))
            image.thumbnail((side, side))
        return small


def open_file(request: DemoRequest, is_cancelled: Callable[[], bool]) -> ShownFile:
    """The decoded file of a request. Raises a `FoveateError` for damaged, large and slow ones."""
    if not request.is_clip:
        return ShownFile(request.key, tuple(decode_images([request.file], is_cancelled)))
    (frames,) = decode_videos([request.file], LIMITS, is_cancelled)
    times, images = zip(*frames, strict=True)
    return ShownFile(request.key, images, times)


def to_url(image: Image.Image) -> str:
    """An image as a data URL."""
    out = BytesIO()
    image.save(out, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
