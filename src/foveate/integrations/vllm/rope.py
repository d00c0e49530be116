"""What the processors of models with one axis of positions share."""

from __future__ import annotations

from typing import Any

from vllm.multimodal.parse import ImageProcessorItems

from foveate.errors import InputError
from foveate.integrations.vllm.model import read_max_positions
from foveate.integrations.vllm.processor import PruningProcessor
from foveate.integrations.vllm.settings import VllmSettings


def read_sizes(mm_items: Any) -> list[Any]:
    """Width and height of every image that was sent. An image that vLLM has cached may come as None."""
    images = mm_items.get_items("image", ImageProcessorItems)
    return [images.get_image_size(n) for n in range(len(images)) if images.get(n) is not None]


class RopeProcessor(PruningProcessor):
    """For models with one axis of positions and a largest position."""

    def count_tokens(self, mm_items: Any, data: Any) -> list[tuple[int, int]]:
        """The patches of the tower; none is protected."""
        return [(self.count_image_tokens(size), 0) for size in read_sizes(mm_items)]

    def count_image_tokens(self, size: Any) -> int:
        """How many tokens an image of this size has."""
        return int(self.info.get_num_image_tokens(image_width=size.width, image_height=size.height))

    def check_request(self, settings: VllmSettings, inputs: Any) -> None:
        """Also raises `InputError` if whole images would take the text past the last position."""
        super().check_request(settings, inputs)
        if settings.positions == "compact":
            return
        sizes = read_sizes(inputs.mm_data_items)
        length = len(inputs.prompt) + sum(self.count_image_tokens(size) - 1 for size in sizes)
        limit = read_max_positions(self.info.ctx.model_config)
        if length > limit:
            raise InputError(
                f"With whole images the prompt would be {length} tokens long, and the model has {limit} "
                'positions: set "positions": "compact", or send fewer images.'
            )
