"""What the processors of models with one axis of positions share."""

from __future__ import annotations

from typing import Any

from vllm.multimodal.parse import ImageProcessorItems, VideoProcessorItems

from foveate.errors import InputError
from foveate.integrations.vllm.model import read_max_positions
from foveate.integrations.vllm.processor import PruningProcessor
from foveate.integrations.vllm.settings import VllmSettings


def read_sizes(mm_items: Any) -> list[Any]:
    """Width and height of every image that was sent. An image that vLLM has cached may come as None."""
    images = mm_items.get_items("image", ImageProcessorItems)
    return [images.get_image_size(n) for n in range(len(images)) if images.get(n) is not None]


def read_clip_sizes(mm_items: Any) -> list[tuple[Any, int]]:
    """The same for clips: width and height, and the number of frames."""
    clips = mm_items.get_items("video", VideoProcessorItems)
    return [(clips.get_frame_size(n), clips.get_num_frames(n)) for n in range(len(clips)) if clips.get(n) is not None]


class RopeProcessor(PruningProcessor):
    """For models with one axis of positions and a largest position."""

    def count_tokens(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """The patches of the tower; none is protected."""
        return [(self.count_image_tokens(size), 0) for size in read_sizes(mm_items)]

    def count_image_tokens(self, size: Any) -> int:
        """How many tokens an image of this size has."""
        return int(self.info.get_num_image_tokens(image_width=size.width, image_height=size.height))

    def count_clip_tokens(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """Pooled patches of all frames, and a protected newline."""
        return [
            (int(self.info.get_num_video_tokens(image_width=size.width, image_height=size.height, num_frames=count)), 1)
            for size, count in read_clip_sizes(mm_items)
        ]

    def check_request(self, settings: VllmSettings, inputs: Any) -> None:
        """Also raises `InputError` if whole images would take the text past the last position."""
        super().check_request(settings, inputs)
        if settings.positions == "compact":
            return
        items = inputs.mm_data_items
        counts = [self.count_image_tokens(size) for size in (read_sizes(items) if "image" in items else ())]
        counts += [total for total, _ in (self.count_clip_tokens(items, None) if "video" in items else ())]
        length = len(inputs.prompt) + sum(count - 1 for count in counts)
        limit = read_max_positions(self.info.ctx.model_config)
        if length > limit:
            raise InputError(
                f"With whole images the prompt would be {length} tokens long, and the model has {limit} "
                'positions: set "positions": "compact", or send fewer images.'
            )
