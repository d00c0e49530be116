"""Some questions as the model's inputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from foveate.apps.evaluate.examples import EvalExample
from foveate.apps.evaluate.media import make_media_inputs
from foveate.method import Method
from foveate.models import family_of
from foveate.models.generation import read_pad_id
from foveate.models.sequence import cut_sequence, lay_out
from foveate.pipeline.encode import Encoded, encode
from foveate.runtime.conversation import make_inputs
from foveate.runtime.loaded import LoadedModel
from foveate.world.clip_inputs import make_clip_inputs, make_history_inputs

MAKERS: Mapping[str, Callable[..., Any]] = {
    "image": make_inputs,
    "images": make_history_inputs,
    "video": make_clip_inputs,
    "media": make_media_inputs,
}
SHOWN: Mapping[str, tuple[str, ...]] = {
    "image": ("image",),
    "images": ("image",),
    "video": ("video",),
    "media": ("image", "video"),
}


@dataclass(eq=False)
class EvalBatch:
    """Some examples as the model's inputs; the images go through the encoder once for all arms."""

    loaded: LoadedModel
    examples: Sequence[EvalExample]
    methods: Sequence[Method]

    @cached_property
    def images(self) -> list[Any]:
        """The image of each example, or its images, frames or clips."""
        return [example.image() for example in self.examples]

    @cached_property
    def inputs(self) -> Any:
        """The processor's output."""
        return self.process(self.images)

    @cached_property
    def encoded(self) -> Encoded:
        """The visual tokens, and what the methods need beside them."""
        return encode(self.loaded.model, self.inputs, methods=self.methods)

    @cached_property
    def sizes(self) -> list[int]:
        """The visual tokens of each image, all of its tiles together."""
        return self.count_tokens(self.inputs)

    @property
    def modality(self) -> str:
        """What all examples are about: "image", "images", "video" or "media"."""
        return self.examples[0].modality

    def process(self, images: Sequence[Any]) -> Any:
        """The prompts of the examples with these images."""
        return MAKERS[self.modality](self.loaded, images, [example.question for example in self.examples])

    def mark_visual(self, inputs: Mapping[str, Any]) -> Tensor:
        """(b, L): the placeholders."""
        model, family = self.loaded.model, family_of(self.loaded.model)
        marks = [family.placeholders(model.config, inputs, each) for each in self.shown]
        return torch.stack(marks).any(0)

    @property
    def shown(self) -> list[str]:
        """What the prompts show: "image", "video" or both."""
        known = family_of(self.loaded.model).traits.modalities
        return [modality for modality in SHOWN[self.modality] if modality in known]

    def count_tokens(self, inputs: Mapping[str, Any]) -> list[int]:
        """The visual tokens of each row."""
        counts: list[int] = self.mark_visual(inputs).sum(1).tolist()
        return counts


def cut_placeholders(batch: EvalBatch, counts: Sequence[int]) -> dict[str, Any]:
    """The prompts with only the first `counts` placeholders of each row, numbered anew, without pixels."""
    model, family, inputs = batch.loaded.model, family_of(batch.loaded.model), batch.inputs
    is_visual = batch.mark_visual(inputs)
    limits = torch.tensor(list(counts), device=is_visual.device)[:, None]
    stays = inputs["attention_mask"].bool() & (~is_visual | (is_visual.cumsum(1) <= limits))
    own = (family.encoder_inputs(model, inputs, modality) for modality in batch.shown)
    of_encoder = {"pixel_values"}.union(*own)
    rest = {name: value for name, value in inputs.items() if name not in of_encoder}
    positions = family.positions(model, inputs, inputs["attention_mask"])
    layout = lay_out(inputs["attention_mask"], stays)
    return cut_sequence(rest, layout, positions, pad_id=read_pad_id(model), compact=True)
