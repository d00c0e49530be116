"""Small video files, written by PyAV: every frame has a grey level of its own and a red corner at the top left."""

from fractions import Fraction

import numpy as np
import pytest
from transformers.utils.import_utils import is_torchvision_available

from foveate.runtime.load import load, quiet
from tiny import tiny_folder

HAS_TORCHVISION = is_torchvision_available()
needs_videos = pytest.mark.skipif(not HAS_TORCHVISION, reason="torchvision is not installed: make test-towers")
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


def load_reader(family, folder):
    """A tiny Qwen-VL whose chat template shows clips."""
    with quiet():
        loaded = load(str(tiny_folder(family, folder)))
    processor = loaded.processor
    if HAS_TORCHVISION:
        processor.video_processor.size = processor.image_processor.size
    video = "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% else %}"
    processor.chat_template = processor.chat_template.replace("{% else %}", video, 1)
    assert "video_pad" in processor.chat_template
    return loaded


def to_video_arguments(clips, rates):
    """What a processor takes for clips of (seconds, image), with so many frames a second."""
    return {
        "videos": [[image for _, image in clip] for clip in clips], "do_sample_frames": False,
        "video_metadata": [
            {"fps": rate, "total_num_frames": len(clip), "frames_indices": [seconds * rate for seconds, _ in clip]}
            for clip, rate in zip(clips, rates, strict=True)
        ],
    }  # fmt: skip
