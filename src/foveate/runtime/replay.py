"""Prompts with images that the processor has processed before: it runs again without their pixels."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from foveate.models import family_of
from foveate.runtime.conversation import process_chat
from foveate.runtime.loaded import LoadedModel


@dataclass(frozen=True, eq=False)
class ProcessedImages:
    """What an image processor returned for `count` images, with tensors of the pixels' shape and without the pixels."""

    output: Any
    count: int

    @property
    def bytes(self) -> int:
        """The bytes of what is kept."""
        tensors = [value for value in self.output.values() if isinstance(value, Tensor)]
        return 1024 + sum(tensor.untyped_storage().nbytes() for tensor in tensors)


class _ImageProcessorProxy:
    """An image processor whose output is recorded, or whose recorded output is returned."""

    def __init__(self, stock: Any, recorded: Any = None) -> None:
        self._stock, self.recorded, self.calls = stock, recorded, 0
        self._replays = recorded is not None

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if not self._replays:
            self.recorded = self._stock(*args, **options)
        return _copy(self.recorded)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stock, name)


def record_images(
    loaded: LoadedModel, prompt: str, images: Sequence[Image.Image]
) -> tuple[Any, ProcessedImages | None]:
    """The inputs of a prompt, and what `replay_images` needs, for `can_replay` to check; None where not known."""
    with _swap(loaded, None) as proxy:
        inputs = process_chat(loaded, prompt, images)
    if proxy.calls != 1 or not isinstance(proxy.recorded, Mapping):
        return inputs, None
    return inputs, ProcessedImages(_drop_pixels(loaded, proxy.recorded), len(images))


def can_replay(loaded: LoadedModel, prompt: str, inputs: Mapping[str, Any], processed: ProcessedImages) -> bool:
    """Whether a replay gives the same inputs as the images did."""
    try:
        return _is_same(loaded, inputs, replay_images(loaded, prompt, processed))
    except Exception:  # a processor that reads the images themselves may fail in any way on others
        return False


def replay_images(loaded: LoadedModel, prompt: str, processed: ProcessedImages) -> Any:
    """The inputs of a prompt with these images, with zeros in the place of pixels."""
    stub = Image.new("RGB", (64, 64))
    with _swap(loaded, processed.output):
        return process_chat(loaded, prompt, [stub] * processed.count)


def join_processed(parts: Sequence[ProcessedImages]) -> ProcessedImages:
    """The record of all these images, in order, for a processor that makes the same of each image beside others."""
    outputs = [part.output for part in parts]
    joined = {name: _join_values([output[name] for output in outputs]) for name in outputs[0]}
    return ProcessedImages(type(outputs[0])(joined), sum(part.count for part in parts))


def _join_values(values: Sequence[Any]) -> Any:
    """The rows of all values; zeros that take no memory stay so."""
    if not isinstance(values[0], Tensor):
        return [row for value in values for row in value]
    if all(not any(value.stride()) for value in values):
        return values[0].flatten()[0].expand(sum(map(len, values)), *values[0].shape[1:])
    return torch.cat(list(values))


@contextmanager
def _swap(loaded: LoadedModel, recorded: Any) -> Iterator[_ImageProcessorProxy]:
    """A proxy in the place of the processor's image processor."""
    stock = loaded.processor.image_processor
    loaded.processor.image_processor = proxy = _ImageProcessorProxy(stock, recorded)
    try:
        yield proxy
    finally:
        loaded.processor.image_processor = stock


def _copy(output: Any) -> Any:
    """The same output with a mapping of its own: processors take entries out of it."""
    return type(output)(dict(output))


def _drop_pixels(loaded: LoadedModel, output: Any) -> Any:
    """The output with zeros, which take no memory, for pixels."""
    main = family_of(loaded.model).traits.main_inputs["image"]
    return type(output)({name: _hollow(value) if name == main else value for name, value in output.items()})


def _hollow(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.zeros((), dtype=value.dtype).expand(value.shape)
    return [_hollow(each) for each in value] if isinstance(value, (list, tuple)) else value


def _is_same(loaded: LoadedModel, inputs: Mapping[str, Any], again: Mapping[str, Any]) -> bool:
    main = family_of(loaded.model).traits.main_inputs["image"]
    return inputs.keys() == again.keys() and all(
        name == main or (isinstance(value, Tensor) and torch.equal(value, again[name]))
        for name, value in inputs.items()
    )
