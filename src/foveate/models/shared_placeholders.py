"""Videos on the placeholders of images: told apart by the marks around a video, encoded together."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.batch import PromptBatch
from foveate.models.inputs import find_modalities
from foveate.models.kept import keep_tokens, kept_output
from foveate.models.visual_input import VisualInput


def encoded_inputs(family: Family, model: Any, inputs: Inputs) -> dict[str, Any]:
    """These inputs with every image and video encoded, for models whose forward cannot encode them itself."""
    shown = find_modalities(family, inputs)
    gone = set[str]().union(*(family.encoder_inputs(model, inputs, modality) for modality in shown))
    rest = {name: value for name, value in inputs.items() if name not in gone}
    return {**rest, "mm_encoder_outputs": {modality: family.encode(model, inputs, modality) for modality in shown}}


class InClips(Family):
    """A video's tokens stand on placeholders of images, between a mark that begins it and one that ends it."""

    marks: ClassVar[tuple[str, str]] = ("video_start_token_id", "video_end_token_id")
    """What the configuration calls the two marks."""

    def placeholders(self, config: Any, inputs: Inputs, modality: str = "image") -> Tensor:
        """A placeholder is a video's from one mark to the other."""
        ids = inputs["input_ids"]
        starts, ends = (ids == getattr(config, mark) for mark in self.marks)
        inside = starts.cumsum(-1) > ends.cumsum(-1)
        places: Tensor = (ids == self.token_id(config)) & (inside if modality == "video" else ~inside)
        return places


class Together(InClips):
    """The stock model puts one modality's tokens on all placeholders: it refuses a batch that shows both.

    Encoded as images, in the order of the prompt, they fit.
    """

    def shorten(self, model: Any, batch: PromptBatch) -> dict[str, Any]:
        """Images and videos as one output."""
        short = super().shorten(model, batch)
        short["mm_encoder_outputs"] = {"image": join_outputs(next(iter(batch.outputs.values())), batch.items)}
        return short


def join_outputs(output: Any, items: Sequence[VisualInput]) -> Any:
    """An encoder's output that holds what all items keep, in the order of the prompt."""
    ordered = sorted(items, key=lambda item: (item.row, item.first))
    return kept_output(output, keep_tokens([item.embeds for item in ordered], ordered))
