"""Small video files, written by PyAV: every frame has a grey level of its own and a red corner at the top left."""

from fractions import Fraction

import numpy as np

LEVELS = 30  # between two frames
CORNER = 16


def write_video(path, times, codec="mpeg4", pix_fmt="yuv420p", size=(64, 48), rotation=None, **options):
    """A video with a frame at each of these times in seconds; the folder's format is by the name's suffix."""
    import av  # an extra

    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height = size
        stream.pix_fmt, stream.time_base = pix_fmt, Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for number, seconds in enumerate(times):
            frame = av.VideoFrame.from_ndarray(draw_frame(number, size), format="rgb24")
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def draw_frame(number, size):
    """(height, width, 3) uint8."""
    pixels = np.full((size[1], size[0], 3), LEVELS * number % 256, np.uint8)
    pixels[:CORNER, :CORNER] = (255, 0, 0)
    return pixels


def number_of(image):
    """Which frame it is, by the level of its middle."""
    return round(np.asarray(image)[image.height // 2, image.width // 2].mean() / LEVELS)
