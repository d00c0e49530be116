"""One image through the processor and the encoder by itself, to stand beside any others in a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from foveate.errors import InputError
from foveate.method import Method
from foveate.models import family_of
from foveate.models.visual_input import Grid
from foveate.pipeline.encode import Encoded, encode
from foveate.pipeline.join import can_join, join_images, reads_images_alone
from foveate.runtime.conversation import apply_template, format_question
from foveate.runtime.image_cache import EncodedImage, digest_inputs, match_inputs
from foveate.runtime.loaded import LoadedModel
from foveate.runtime.replay import ProcessedImages, can_replay, join_processed, record_images

SHOW = "show such images with see(image), without a time."


@dataclass(frozen=True, eq=False)
class SingleImage:
    """An image after the encoder, by itself.

    Args:
        encoded: What the encoder returned, as one entry or several.
        processed: What the processor returned for it.
        grid: (t, h, w) of its tokens; None where they have none.
    """

    encoded: Encoded
    processed: ProcessedImages
    grid: Grid | None

    @property
    def levels(self) -> list[Sequence[Tensor]]:
        """The tokens (n, d) of every entry, and those of each level of DeepStack."""
        output = self.encoded.outputs["image"]
        return [output.pooler_output, *(output.deepstack_features or [])]


def process_alone(loaded: LoadedModel, image: Image.Image) -> tuple[Any, ProcessedImages]:
    """The inputs of a prompt with this image alone, and its record.

    Raises `InputError` where the model's images cannot be encoded one by one.
    """
    family = family_of(loaded.model)
    inputs, processed = record_images(loaded, format_question(loaded, ""), [image])
    if processed is None or not can_join(family) or not reads_images_alone(loaded.model, family, inputs):
        raise InputError(
            f"A stream is encoded frame by frame, and {family.model_type} models do not read images so: {SHOW}"
        )
    return inputs, processed


def check_beside(loaded: LoadedModel, images: Sequence[Image.Image]) -> None:
    """Raise `InputError` where the processor makes something else of these images together than of each alone."""
    family = family_of(loaded.model)
    alone = [process_alone(loaded, image) for image in images]
    prompt = apply_template(loaded, [{"role": "user", "content": [{"type": "image"}] * len(images)}])
    inputs, _ = record_images(loaded, prompt, images)
    parts = [EncodedImage(Encoded(), digest_inputs(family.encoder_inputs(loaded.model, own))) for own, _ in alone]
    joined = join_processed([processed for _, processed in alone])
    is_same = match_inputs(family.encoder_inputs(loaded.model, inputs), parts)
    if not is_same or not can_replay(loaded, prompt, inputs, joined):
        raise InputError(
            f"A stream is encoded frame by frame, and the processor of {loaded.name} makes something else of images of "
            f"{' and '.join('{} x {}'.format(*image.size) for image in images)} pixels together: "
            f"use images of one size, or {SHOW}"
        )


@torch.no_grad()
def encode_alone(loaded: LoadedModel, image: Image.Image, method: str | Method) -> SingleImage:
    """The image through the encoder. Raises as `process_alone` does."""
    family = family_of(loaded.model)
    inputs, processed = process_alone(loaded, image)
    encoded = join_images(family, [encode(loaded.model, inputs, methods=[method])])
    items = family.items(loaded.model, inputs, encoded.outputs, encoded.extras)
    return SingleImage(encoded, processed, items[0].grid if len(items) == 1 else None)
