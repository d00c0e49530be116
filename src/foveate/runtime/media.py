"""Clips and sounds of a conversation: what a processor reads beside images, and how often it is encoded."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeGuard

import numpy as np
import torch
from PIL import Image

from foveate.errors import InputError, describe
from foveate.method import Method, resolve
from foveate.method.checks import is_number
from foveate.models import family_of
from foveate.models.inputs import find_modalities
from foveate.pipeline.encode import DECODER_EXTRAS, encode
from foveate.pipeline.join import count_bytes
from foveate.pipeline.settings import PruneSettings
from foveate.runtime.conversation import apply_template, process_chat
from foveate.runtime.files import to_upright_rgb
from foveate.runtime.image_cache import ImageCache, LazyImage, PreparedPrompt
from foveate.runtime.loaded import LoadedModel
from foveate.runtime.processor import find_reader
from foveate.runtime.timing import StageTimer
from foveate.runtime.video import TimedFrame

AS_FRAMES = "show frames one by one, with their times, as foveate watch does"


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of one size with their times in seconds, and a key that is the same for the same clip."""

    key: str
    times: tuple[float, ...]
    frames: tuple[Image.Image, ...]
    modality: ClassVar[str] = "video"

    @property
    def metadata(self) -> dict[str, Any]:
        """The times as processors take them: frames counted at the clip's mean rate, from 0 s on."""
        span = self.times[-1] - self.times[0]
        rate = (len(self.times) - 1) / span if span else 1.0
        places = [round(seconds * rate, 6) for seconds in self.times]
        indices = [int(place) if place.is_integer() else place for place in places]
        return {"fps": rate, "total_num_frames": len(self.times), "frames_indices": indices}


@dataclass(frozen=True, eq=False)
class Sound:
    """(n,) samples of one channel, at the rate of the processor, and a key that is the same for the same sound."""

    key: str
    samples: np.ndarray
    modality: ClassVar[str] = "audio"


Seen = Image.Image | Sequence[TimedFrame]
Shown = LazyImage | Clip | Sound


def read_shown(loaded: LoadedModel, value: Any) -> Shown:
    """An image of Pillow, or a clip of (seconds, image). Raises `InputError` for anything else."""
    if isinstance(value, (list, tuple)):
        return make_clip(loaded, value)
    image = read_image(value)
    return LazyImage(_hash(f"{image.size}", image.tobytes()), lambda: image)


def list_frames(seen: Seen) -> list[Image.Image]:
    """The image itself, or the frames of a clip."""
    return [seen] if isinstance(seen, Image.Image) else [image for _, image in seen]


def is_image(shown: Shown) -> TypeGuard[LazyImage]:
    """Whether it is an image."""
    return isinstance(shown, LazyImage)


def read_image(value: Any) -> Image.Image:
    """An image of Pillow, upright and RGB. Raises `InputError` for anything else."""
    if not isinstance(value, Image.Image):
        raise InputError(f"{describe(value)} is no image: open it with PIL.Image.open, then show it.")
    return to_upright_rgb(value)


def check_mix(shown: Sequence[Shown], settings: PruneSettings, *, has_frames: bool) -> None:
    """Raise `InputError` for clips or sounds beside the frames of a stream, and for any of them with a policy."""
    others = {each.modality for each in shown} - {"image"}
    if has_frames and others:
        raise InputError("A session has clips and sounds or the frames of a stream, not both: open another one.")
    if (has_frames or others & {*settings.modalities}) and settings.policy is not None:
        raise InputError("A policy was calibrated on whole images: for frames, clips and sounds give keep a number.")


def make_clip(loaded: LoadedModel, frames: Sequence[Any]) -> Clip:
    """A clip of (seconds, image). Raises `InputError` for anything else, or where the model reads no clips."""
    if not frames:
        raise InputError("The clip has no frames: give a list of (seconds, image).")
    times, images = list[float](), list[Image.Image]()
    for number, frame in enumerate(frames):
        is_pair = isinstance(frame, (list, tuple)) and len(frame) == 2 and isinstance(frame[1], Image.Image)
        if not is_pair or not is_number(frame[0]) or not 0 <= frame[0] < math.inf:
            raise InputError(
                f"Frame {number} of the clip is {describe(frame)}: a list is a clip of (seconds, image of Pillow), and "
                "several images are several arguments."
            )
        if times and frame[0] <= times[-1]:
            raise InputError(
                f"Frame {number} of the clip is at {frame[0]:g} s, the one before at {times[-1]:g} s: give them in "
                "order of time."
            )
        image = to_upright_rgb(frame[1])
        if images and image.size != images[0].size:
            raise InputError(f"Frame {number} of the clip has another size than those before: resize it.")
        times.append(float(frame[0]))
        images.append(image)
    check_reader(loaded, "video")
    return Clip(_hash(f"{times} {images[0].size}", *(image.tobytes() for image in images)), tuple(times), tuple(images))


def make_sound(loaded: LoadedModel, samples: Any, sampling_rate: int) -> Sound:
    """A sound of (n,) samples. Raises `InputError` where they are none, or where the model hears none."""
    check_reader(loaded, "audio")
    try:
        values = np.asarray(samples, dtype=np.float32)
    except (TypeError, ValueError):
        values = np.zeros(0, dtype=np.float32)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InputError(f"{describe(samples)} is no sound: give the samples of one channel, (n,) finite numbers.")
    rate = _sampling_rate(loaded)
    if sampling_rate != rate:
        raise InputError(f"The sound has {describe(sampling_rate)} samples a second: resample it to {rate}.")
    return Sound(_hash("", values.tobytes()), values)


def _sampling_rate(loaded: LoadedModel) -> int:
    rate: int = find_reader(loaded.processor, "audio").sampling_rate
    return rate


def _hash(head: str, *parts: bytes) -> str:
    digest = hashlib.sha256(head.encode())
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def check_reader(loaded: LoadedModel, modality: str, instead: str = AS_FRAMES) -> None:
    """Raise `InputError` or `ModelError` where a conversation cannot hold this modality.

    `instead` is what a caller can do where no video is read.
    """
    fix = "leave it out" if modality == "audio" else instead
    if find_reader(loaded.processor, modality) is None:
        add = f"install torchvision, or {fix}" if hasattr(loaded.processor, f"{modality}_processor") else fix
        raise InputError(f"The processor of {loaded.name} reads no {modality} here: {add}.")
    text = {"type": "text", "text": "?"}
    prompts = [
        apply_template(loaded, [{"role": "user", "content": content}])
        for content in ([{"type": modality}, text], [text])
    ]
    if prompts[0] == prompts[1]:
        raise InputError(f"The chat template of {loaded.name} shows no {modality}: {fix}.")


def prepare_shown(
    cache: ImageCache, prompt: str, shown: Sequence[Shown], method: str | Method,
    check: Callable[[Mapping[str, Any]], None] = lambda _: None, *, is_whole: bool = True,
) -> PreparedPrompt:  # fmt: skip
    """The inputs of a prompt with images, clips and sounds in order, and what these were encoded to.

    With clips all images and clips of a prompt are known together only; sounds are encoded for every prompt. `check`
    and `is_whole` are those of `ImageCache.prepare`.
    """
    images = [each for each in shown if isinstance(each, LazyImage)]
    if len(images) == len(shown):
        return cache.prepare(prompt, images, method, check, is_whole=is_whole)
    loaded, family = cache.loaded, family_of(cache.loaded.model)
    model, inputs = loaded.model, process_shown(loaded, prompt, shown)
    check(inputs)
    seen = [modality for modality in find_modalities(family, inputs) if modality != "audio"]
    reads_text = any("input_ids" in name for each in seen for name in family.encoder_inputs(model, inputs, each))
    if not seen or reads_text or not is_whole:
        return PreparedPrompt(inputs)
    keys = tuple(each.key for each in shown if not isinstance(each, Sound))
    key = ("together", keys, resolve(method).needs - DECODER_EXTRAS)
    timer = StageTimer(model.device)
    encoded, is_known = cache.remember(key, lambda: encode(model, inputs, methods=[method]), count_bytes)
    timer.lap("encode")
    raw = {family.traits.main_inputs[modality] for modality in encoded.outputs}
    short = {name: value for name, value in inputs.items() if family.traits.aliases.get(name, name) not in raw}
    return PreparedPrompt(short, encoded, len(keys) if is_known else 0, timer.laps["encode"])


def make_seen_inputs(loaded: LoadedModel, seen: Sequence[Seen], question: str) -> Any:
    """The model's inputs for one question about images and clips. Raises as `read_shown` and `process_chat`."""
    shown = [read_shown(loaded, each) for each in seen]
    content = [*({"type": each.modality} for each in shown), {"type": "text", "text": question}]
    return process_shown(loaded, apply_template(loaded, [{"role": "user", "content": content}]), shown)


def process_shown(loaded: LoadedModel, prompt: str, shown: Sequence[Shown]) -> Any:
    """The model's inputs for a prompt with images, clips and sounds in order. Raises as `process_chat`."""
    images = [each for each in shown if isinstance(each, LazyImage)]
    clips = [each for each in shown if isinstance(each, Clip)]
    sounds = [each for each in shown if isinstance(each, Sound)]
    media: dict[str, Any] = {}
    if clips:  # at their own times: the processor is not to choose among the frames
        media |= {"videos": [list(clip.frames) for clip in clips], "do_sample_frames": False}
        media |= {"video_metadata": [clip.metadata for clip in clips]}
    if sounds:
        media |= {"audio": [sound.samples for sound in sounds], "sampling_rate": _sampling_rate(loaded)}
    inputs = process_chat(loaded, prompt, [image.open() for image in images], media)
    if "video_second_per_grid" in inputs:  # Qwen-Omni's processor takes every clip for two frames a second
        size, seconds = loaded.processor.video_processor.temporal_patch_size, inputs["video_second_per_grid"]
        inputs["video_second_per_grid"] = torch.tensor(
            [size / clip.metadata["fps"] for clip in clips], dtype=seconds.dtype, device=seconds.device
        )
    return inputs
