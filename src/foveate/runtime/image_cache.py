"""Images that were seen before: processed and encoded once, as long as a byte limit has room for them."""

import hashlib
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from PIL import Image
from torch import Tensor

from foveate.method import Method, resolve
from foveate.models import family_of
from foveate.models.inputs import drop_raw
from foveate.pipeline.encode import DECODER_EXTRAS, Encoded, Marks, encode
from foveate.pipeline.join import can_join, count_bytes, join_images, reads_images_alone
from foveate.runtime.byte_cache import ByteCache
from foveate.runtime.conversation import make_inputs, process_chat
from foveate.runtime.loaded import LoadedModel
from foveate.runtime.replay import ProcessedImages, can_replay, record_images, replay_images
from foveate.runtime.timing import StageTimer

T = TypeVar("T")
Digest = tuple[int, bytes]  # number of rows, and hash of them


@dataclass(frozen=True, eq=False)
class LazyImage:
    """An image by its content: `key` is the same for the same image, `open` decodes it."""

    key: str
    open: Callable[[], Image.Image]
    modality: ClassVar[str] = "image"


@dataclass(frozen=True, eq=False)
class PreparedPrompt:
    """Inputs of a prompt and its images after the encoder.

    Args:
        inputs: The inputs.
        encoded: What the images were encoded to; None where they are not yet.
        known: How many of them were known.
        seconds: The time of the encoder.
        marks: What is there of each image; None where all is.
        times: The times of those that are frames of a stream.
    """

    inputs: Mapping[str, Any]
    encoded: Encoded | None = None
    known: int = 0
    seconds: float = 0.0
    marks: Marks | None = None
    times: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image after the encoder, and a digest of each input that the encoder read."""

    encoded: Encoded
    read: Mapping[str, Digest]


@dataclass(frozen=True, eq=False)
class KnownImages:
    """Images of a prompt as the processor returned them, and whether each of them was encoded by itself."""

    processed: ProcessedImages
    apart: bool


class ImageCache:
    """The encoded images of the last conversations with one model; those least recently used are forgotten first.

    An image is encoded by itself, also where several come together, so that it is known in every conversation. Where
    the processor makes something else of it beside others, or the model reads more of the encoder than tokens, the
    images of a prompt are known together only. A model whose encoder reads the question knows none.

    Args:
        loaded: The model. Its processor is used by one thread at a time.
        max_bytes: Limit for all tokens; 0 keeps nothing.
    """

    def __init__(self, loaded: LoadedModel, max_bytes: int) -> None:
        self.loaded = loaded
        self._family = family_of(loaded.model)
        self._cache = ByteCache(max_bytes)
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """The size of all that is kept."""
        return self._cache.bytes

    def prepare(
        self, prompt: str, images: Sequence[LazyImage], method: str | Method,
        check: Callable[[Mapping[str, Any]], None] = lambda _: None, *, is_whole: bool = True,
    ) -> PreparedPrompt:  # fmt: skip
        """The inputs of a prompt with images in order, and what these were encoded to.

        `check` sees the inputs before anything is encoded. Unless images are encoded whole, which of their tiles are
        depends on the question, so that nothing is encoded or known here. Raises as `check` and `process_chat` do.
        """
        if not images or not self._cache.max_bytes or not is_whole:
            inputs = process_chat(self.loaded, prompt, [image.open() for image in images])
            check(inputs)
            return PreparedPrompt(inputs)
        keys, needs = tuple(image.key for image in images), resolve(method).needs - DECODER_EXTRAS
        with self._lock:
            known: KnownImages | None = self._cache.get(keys)
            encoded = self._find_encoded(keys, needs, apart=known.apart) if known else None
            if known is None or encoded is None:
                return self._encode_new(prompt, images, method, check)
            inputs = replay_images(self.loaded, prompt, known.processed)
            check(inputs)
            return PreparedPrompt(drop_raw(self._family, inputs), encoded, len(keys))

    def _find_encoded(self, keys: tuple[str, ...], needs: frozenset[str], *, apart: bool) -> Encoded | None:
        """The images as they were encoded, one by one or together."""
        if not apart:
            together: Encoded | None = self._cache.get((keys, needs))
            return together
        parts = [self._cache.get((key, needs)) for key in keys]
        return join_images(self._family, [part.encoded for part in parts]) if all(parts) else None

    def _encode_new(
        self, prompt: str, images: Sequence[LazyImage], method: str | Method,
        check: Callable[[Mapping[str, Any]], None],
    ) -> PreparedPrompt:  # fmt: skip
        model, keys = self.loaded.model, tuple(image.key for image in images)
        opened = [image.open() for image in images]
        inputs, processed = record_images(self.loaded, prompt, opened)
        check(inputs)
        if not reads_images_alone(model, self._family, inputs):
            return PreparedPrompt(inputs)
        encoded, known, seconds = self._encode_apart(inputs, keys, opened, method)
        apart = encoded is not None
        if encoded is None:
            timer = StageTimer(model.device)
            encoded = encode(model, inputs, methods=[method])
            timer.lap("encode")
            known, seconds = 0, seconds + timer.laps["encode"]
            needs = resolve(method).needs - DECODER_EXTRAS
            self._cache.put((keys, needs), encoded, count_bytes(encoded))
        if processed is not None and can_replay(self.loaded, prompt, inputs, processed):
            self._cache.put(keys, KnownImages(processed, apart), processed.bytes)
        return PreparedPrompt(drop_raw(self._family, inputs), encoded, known, seconds)

    def _encode_apart(
        self, inputs: Any, keys: Sequence[str], opened: Sequence[Image.Image], method: str | Method
    ) -> tuple[Encoded | None, int, float]:
        """The images encoded one by one, how many of them were known, and the seconds of the encoder.

        None where the model cannot use them so, or where the processor makes something else of an image alone.
        """
        if not can_join(self._family):
            return None, 0, 0.0
        needs, seconds, parts = resolve(method).needs - DECODER_EXTRAS, 0.0, list[EncodedImage]()
        ready = {key: part for key in keys if (part := self._cache.get((key, needs)))}
        known = sum(key in ready for key in keys)
        for key, image in zip(keys, opened, strict=True):
            if key not in ready:
                single = inputs if len(keys) == 1 else make_inputs(self.loaded, [image], [""])
                ready[key], spent = self._encode_one(single, method)
                seconds += spent
                self._cache.put((key, needs), ready[key], count_bytes(ready[key].encoded))
            parts.append(ready[key])
        if not match_inputs(self._family.encoder_inputs(self.loaded.model, inputs), parts):
            return None, 0, seconds
        return join_images(self._family, [part.encoded for part in parts]), known, seconds

    def _encode_one(self, single: Any, method: str | Method) -> tuple[EncodedImage, float]:
        """An image by itself, and the seconds of the encoder."""
        model, timer = self.loaded.model, StageTimer(self.loaded.model.device)
        encoded = join_images(self._family, [encode(model, single, methods=[method])])
        timer.lap("encode")
        read = digest_inputs(self._family.encoder_inputs(model, single))
        return EncodedImage(encoded, read), timer.laps["encode"]

    def remember(self, key: Hashable, make: Callable[[], T], count: Callable[[T], int]) -> tuple[T, bool]:
        """What was made of this key before, or is made now, and whether it was; `count` says its bytes."""
        with self._lock:
            value: T | None = self._cache.get(key)
            if value is not None:
                return value, True
            value = make()
            self._cache.put(key, value, count(value))
            return value, False

    def clear(self) -> None:
        """Forget all images."""
        with self._lock:
            self._cache.clear()


def digest_inputs(read: Mapping[str, Any]) -> dict[str, Digest]:
    """A digest of each input that the encoder reads."""
    return {name: _digest(value) for name, value in read.items()}


def match_inputs(read: Mapping[str, Any], parts: Sequence[EncodedImage]) -> bool:
    """Whether what the encoder reads of all images is what it read of each."""
    return all(isinstance(value, Tensor) and _is_joined(value, name, parts) for name, value in read.items())


def _is_joined(value: Tensor, name: str, parts: Sequence[EncodedImage]) -> bool:
    if any(name not in part.read for part in parts):
        return False
    counts = [part.read[name][0] for part in parts]
    if value.dim() == 0 or sum(counts) != len(value):
        return False
    return all(_digest(rows) == part.read[name] for rows, part in zip(value.split(counts), parts, strict=True))


def _digest(value: Any) -> Digest:
    """The digest of a tensor; one that matches nothing for anything else."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return -1, b""
    data = value.detach().cpu().contiguous()
    header = f"{data.dtype} {tuple(data.shape)}".encode()
    return len(data), hashlib.sha256(header + data.reshape(-1).view(torch.uint8).numpy().tobytes()).digest()
