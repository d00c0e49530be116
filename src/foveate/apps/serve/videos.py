"""Videos of a request: data URLs, of which some frames are shown to the model."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO

from foveate.apps.serve.errors import RequestError
from foveate.apps.serve.images import DECODE_SECONDS, DecodeTimer, decode_data_url
from foveate.apps.serve.settings import ServeLimits
from foveate.errors import InputError
from foveate.runtime.loaded import LoadedModel
from foveate.runtime.media import Clip, check_reader, make_clip
from foveate.runtime.video import DecodeLimits, TimedFrame, read_clip

FORMATS = "mov,mp4,matroska,webm"
SLOW = f"The videos take more than {DECODE_SECONDS:g} seconds to decode: send shorter or smaller ones."


def check_frames(loaded: LoadedModel, limits: ServeLimits) -> None:
    """Raise `InputError` where a server that is to take videos cannot."""
    if limits.frames:
        if importlib.util.find_spec("av") is None:
            raise InputError("--max-frames needs PyAV: pip install 'foveate[video]'.")
        check_reader(loaded, "video")


def check_videos(urls: Sequence[str], limits: ServeLimits) -> None:
    """Raise `RequestError` for videos that this server does not take."""
    if urls and not limits.frames:
        message = "This server takes no videos: send frames as images, or start it with --max-frames."
        raise RequestError(400, message, code="no_videos", param="messages")
    if any(url[:5].lower() != "data:" for url in urls):
        message = "Videos are not fetched: send one as data:video/mp4;base64,..."
        raise RequestError(400, message, code="remote_url", param="messages")


def read_videos(urls: Sequence[str]) -> list[bytes]:
    """The video files in data URLs. Raises `RequestError`."""
    return [decode_data_url(url, "video", "video/mp4") for url in urls]


def open_videos(
    loaded: LoadedModel, files: Sequence[bytes], limits: ServeLimits, is_cancelled: Callable[[], bool]
) -> list[Clip]:
    """Some frames of every file, evenly in time. Raises a `FoveateError` for damaged, large and slow ones."""
    return [make_clip(loaded, frames) for frames in decode_videos(files, limits, is_cancelled)]


def decode_videos(
    files: Sequence[bytes], limits: ServeLimits, is_cancelled: Callable[[], bool]
) -> Iterator[list[TimedFrame]]:
    """The same frames with their times, for models that read no clips. Raises as `open_videos`."""
    timer, each = DecodeTimer(is_cancelled, SLOW), max(1, limits.pixels // max(1, limits.frames * len(files)))
    decoding = DecodeLimits(FORMATS, pixels=each, threads=1, check=timer.check)
    for data in files:
        yield read_clip(BytesIO(data), limits.frames, decoding)
