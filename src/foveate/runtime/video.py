"""`read_frames` and `read_clip`: the frames of a video file with their times (needs `foveate[video]`)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from foveate.errors import InputError, VideoError, describe
from foveate.method.checks import is_int, is_number
from foveate.runtime.files import to_rgb
from foveate.runtime.late import import_late

VideoSource = str | os.PathLike[str] | BinaryIO
TimedFrame = tuple[float, Image.Image]
# Files of one video each. FFmpeg reads playlists too, which name other files and addresses, and text as a picture.
FORMATS = "mov,mp4,matroska,webm,avi,gif,apng,mpegts,mpeg,flv,ogg,asf"
SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".ogv", ".wmv"))
ROUNDING = 1e-3  # seconds: files hold times in milliseconds, or in a clock of their own
CUT = 0.9  # of the length that a file declares: one that ends before is cut short


@dataclass(frozen=True)
class DecodeLimits:
    """What a decoder may do with a file that nobody vouches for.

    Args:
        formats: Names of FFmpeg's demuxers, separated by commas.
        pixels: At most so many in a frame; None for Pillow's limit.
        threads: The decoder's threads; 0 for one a core.
        check: Is called before each packet, and raises to stop.
    """

    formats: str = FORMATS
    pixels: int | None = None
    threads: int = 0
    check: Callable[[], None] = lambda: None


NO_LIMITS = DecodeLimits()


def read_frames(source: VideoSource, every: float = 1.0) -> Iterator[TimedFrame]:
    """The frames of a video by time: those that are on the screen at 0, `every`, 2 * `every`, ... seconds.

    A frame that stays on the screen comes once. Frames are upright, RGB, transparency on white. Two frames are held at
    a time, however long the video is.

    Args:
        source: The path of a file (MP4, MOV, MKV, WebM, AVI, GIF, APNG, MPEG, ...), or an open binary file.
        every: Seconds between two frames.

    Yields:
        Seconds since the first frame (0, `every`, ...), and the image.

    Raises:
        InputError: `every` is no number above 0, or PyAV is not installed.
        VideoError: There is no such file, or it is no video, or it cannot be decoded from some frame on; all frames
            before were yielded.

    Example:
        for seconds, image in read_frames("clip.mp4", every=0.5):
            image.save(f"{seconds:06.1f}.png")
    """
    if not is_number(every) or not 0 < every < math.inf:
        raise InputError(f"every={describe(every)} is not a number of seconds above 0: give one such as 1.0.")
    av = _import_av()
    return _sample(_decode(av, source, NO_LIMITS), every)


def read_clip(source: VideoSource, count: int, limits: DecodeLimits = NO_LIMITS) -> list[TimedFrame]:
    """At most `count` frames of a video, evenly from its first to its last one, by time.

    A video of fewer frames gives each of them once. The file is read twice: its header need not know how long it is.

    Args:
        source: As in `read_frames`; an open file must be seekable.
        count: Number of frames.
        limits: For files that nobody vouches for.

    Returns:
        For each frame the seconds since the first one, and the image. All are in memory at once.

    Raises:
        InputError: `count` is no number of at least 1, or PyAV is not installed.
        VideoError: As in `read_frames`.
    """
    if not is_int(count) or count < 1:
        raise InputError(f"count={describe(count)} is not a number of frames: use an int of at least 1.")
    av = _import_av()
    last = _find_last(av, source, limits)
    every = last / (count - 1) if count > 1 and last else 2 * last + 1
    return list(_sample(_decode(av, source, limits), every))


def _import_av() -> Any:
    try:
        return import_late("av")
    except ImportError as error:
        raise InputError("Videos are read with PyAV: pip install 'foveate[video]'.") from error


def _sample(frames: Iterable[tuple[float, Any]], every: float) -> Iterator[TimedFrame]:
    """Each frame that is on the screen at a multiple of `every`, with the first such time, and as an image."""
    current, moment, last = None, 0.0, 0.0
    for seconds, frame in frames:
        if current is not None and moment < seconds - ROUNDING:
            yield moment, _to_image(current)
        current, moment, last = frame, every * math.ceil((seconds - ROUNDING) / every), seconds
    if current is not None and moment <= last + ROUNDING:
        yield moment, _to_image(current)


def _to_image(frame: Any) -> Image.Image:
    """A decoded frame as an upright RGB image."""
    if any(part.is_alpha for part in frame.format.components):
        image = to_rgb(Image.fromarray(frame.to_ndarray(format="rgba")))
    else:
        image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _decode(av: Any, source: VideoSource, limits: DecodeLimits) -> Iterator[tuple[float, Any]]:
    """All frames of the file in the order in which they are shown, with the seconds since the first one."""
    name, count, seconds, start, end = _name(source), 0, 0.0, None, 0.0
    with _open(av, source, limits) as (container, stream):
        try:
            for packet in container.demux():
                limits.check()
                end = max(end, _end_of(packet))
                for frame in packet.decode() if packet.stream is stream else ():
                    if frame.is_corrupt or frame.time is None:
                        raise _damaged(name, count, seconds, "its data are damaged")
                    start = frame.time if start is None else start
                    count, seconds = count + 1, max(seconds, frame.time - start)
                    yield seconds, frame
        except (av.FFmpegError, OSError) as error:
            raise _damaged(name, count, seconds, _reason(error)) from error
        if not count:
            raise VideoError(f"{name} holds no frame: save or download it again.")
        is_guess = "mpeg" in container.format.name  # from the size of the file
        declared = 0.0 if is_guess else (container.duration or 0) / av.time_base
        if end < CUT * declared:
            raise _damaged(name, count, seconds, f"it is cut short, of {declared:.2f} s")


def _find_last(av: Any, source: VideoSource, limits: DecodeLimits) -> float:
    """The time of the last frame, from its packet."""
    times = []
    with _open(av, source, limits) as (container, stream), suppress(av.FFmpegError, OSError):  # decoding will say where
        for packet in container.demux(stream):
            limits.check()
            times += [_time_of(packet)] if packet.size else []
    return max(times, default=0.0) - min(times, default=0.0)


def _time_of(packet: Any) -> float:
    when = packet.dts if packet.pts is None else packet.pts
    return float((when or 0) * packet.time_base)


def _end_of(packet: Any) -> float:
    return _time_of(packet) + float((packet.duration or 0) * packet.time_base) if packet.size else 0.0


@contextmanager
def _open(av: Any, source: VideoSource, limits: DecodeLimits) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream."""
    name = _name(source)
    with _open_file(source) as file:
        try:
            container = av.open(file, options={"format_whitelist": limits.formats}, metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:  # a seek to where the file has nothing
            raise VideoError(
                f"{name} is no video that can be read ({_reason(error)}): give an MP4, MOV, MKV, WebM, AVI or GIF "
                "file, or save it again if it is one."
            ) from error
        with container:
            stream = next((each for each in container.streams.video if each.codec_context is not None), None)
            if stream is None:
                raise VideoError(f"{name} holds no video that can be decoded: give a file that does.")
            most = limits.pixels or Image.MAX_IMAGE_PIXELS or 2**31 - 1
            stream.codec_context.options, stream.codec_context.thread_count = {"max_pixels": str(most)}, limits.threads
            yield container, stream


@contextmanager
def _open_file(source: VideoSource) -> Iterator[BinaryIO]:
    """The file from its beginning. FFmpeg opens no path itself: to it a path may be an address."""
    if not isinstance(source, (str, os.PathLike)):
        source.seek(0)
        yield source
        return
    try:
        file = Path(source).expanduser().open("rb")
    except FileNotFoundError as error:
        raise VideoError(f"There is no video {source}: check the path.") from error
    except OSError as error:
        raise VideoError(f"{source} cannot be read ({error.strerror}): give a readable video file.") from error
    with file:
        yield file


def _name(source: VideoSource) -> str:
    return str(source) if isinstance(source, (str, os.PathLike)) else "The video"


def _reason(error: Any) -> str:
    """What FFmpeg says: its log is more exact than the error."""
    log = getattr(error, "log", None)
    return str(log[2] if log else error.strerror).strip().rstrip(".")


def _damaged(name: str, count: int, seconds: float, reason: str) -> VideoError:
    after = f"after frame {count} at {seconds:.2f} s" if count else "from its first frame on"
    return VideoError(f"{name} cannot be decoded {after} ({reason}): save or download it again.")
