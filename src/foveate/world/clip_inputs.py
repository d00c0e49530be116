"""Inputs of a clip for Qwen2.5-VL, without a video processor."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from foveate.models import family_of
from foveate.runtime.conversation import apply_template, process_prompts
from foveate.runtime.loaded import LoadedModel


def make_clip_pixels(image_processor: Any, frames: Sequence[Image.Image]) -> dict[str, Tensor]:
    """Make what Qwen's video processor makes of frames, by its image processor.

    The image processor takes an image as two equal frames, so the two halves of a patch come from two images here.

    Args:
        image_processor: Qwen's image processor.
        frames: An even number of images of one size.

    Returns:
        pixel_values_videos (patches, values) and video_grid_thw (1, 3).
    """
    times = image_processor.temporal_patch_size
    encoded = image_processor(list(frames), return_tensors="pt")
    _, rows, columns = encoded["image_grid_thw"][0].tolist()
    parts = encoded["pixel_values"].unflatten(0, (len(frames) // times, times, rows * columns))
    parts = parts.unflatten(-1, (3, times, -1))  # (moment, frame, patch, channel, time, pixel)
    mixed = torch.stack([parts[:, time, :, :, time] for time in range(times)], dim=3)
    grid = torch.tensor([[len(frames) // times, rows, columns]])
    return {"pixel_values_videos": mixed.flatten(0, 1).flatten(1), "video_grid_thw": grid}


def make_clip_inputs(loaded: LoadedModel, clips: Sequence[Sequence[Image.Image]], questions: Sequence[str]) -> Any:
    """The inputs of a model of Qwen2.5-VL's family for one question about each clip, a row each.

    Example:
        >>> loaded = foveate.load("bundled-clips")
        >>> inputs = make_clip_inputs(loaded, [draw_frames(sample_clip(0, 1))], ["which color is first?"])
        >>> short = foveate.prune_inputs(loaded.model, inputs, keep=0.2)
    """
    model, processor = loaded.model, loaded.processor
    made = [make_clip_pixels(processor.image_processor, frames) for frames in clips]
    prompts = []
    for pixels, question in zip(made, questions, strict=True):
        content = [{"type": "video"}, {"type": "text", "text": question}]
        prompt = apply_template(loaded, [{"role": "user", "content": content}])
        count = int(pixels["video_grid_thw"].prod()) // processor.image_processor.merge_size**2
        prompts.append(prompt.replace(processor.video_token, processor.video_token * count))
    processor.tokenizer.padding_side = "left"
    inputs = processor.tokenizer(prompts, padding=len(prompts) > 1, return_tensors="pt")
    for name in made[0]:
        inputs[name] = torch.cat([pixels[name] for pixels in made])
    inputs["mm_token_type_ids"] = family_of(model).token_types(model.config, inputs)
    return inputs.to(model.device)


def make_history_inputs(loaded: LoadedModel, shots: Sequence[Sequence[Image.Image]], questions: Sequence[str]) -> Any:
    """The inputs for one question about several images, the oldest first, a row each."""
    prompts = []
    for images, question in zip(shots, questions, strict=True):
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": question}]
        prompts.append(apply_template(loaded, [{"role": "user", "content": content}]))
    return process_prompts(loaded, prompts, [list(images) for images in shots])
