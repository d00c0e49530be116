"""Clips on the placeholders of pictures: told apart by the marks around a clip, encoded together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.item import Item
from foveate.models.kept import Mixes, keep_tokens, kept_output


def encoded_inputs(family: Family, model: Any, inputs: Inputs) -> dict[str, Any]:
    """These inputs with every picture and clip encoded, for models whose forward cannot encode them itself."""
    shown = family.present(inputs)
    gone = set[str]().union(*(family.encoder_inputs(model, inputs, modality) for modality in shown))
    rest = {name: value for name, value in inputs.items() if name not in gone}
    return {**rest, "mm_encoder_outputs": {modality: family.encode(model, inputs, modality) for modality in shown}}


class InClips(Family):
    """A clip's tokens stand on placeholders of pictures, between a mark that begins it and one that ends it."""

    marks: ClassVar[tuple[str, str]] = ("video_start_token_id", "video_end_token_id")
    """What the configuration calls the two marks."""

    def placeholders(self, config: Any, inputs: Inputs, modality: str = "image") -> Tensor:
        """A placeholder is a clip's from one mark to the other."""
        ids = inputs["input_ids"]
        starts, ends = (ids == getattr(config, mark) for mark in self.marks)
        inside = starts.cumsum(-1) > ends.cumsum(-1)
        places: Tensor = (ids == self.token_id(config)) & (inside if modality == "video" else ~inside)
        return places


class Together(InClips):
    """The stock model puts one modality's tokens on all placeholders: it refuses a batch that shows both.

    Encoded as pictures, in the order of the prompt, they fit.
    """

    def shorten(
        self, model: Any, inputs: Inputs, outputs: Mapping[str, Any], items: Sequence[Item], kept: Sequence[Tensor],
        mixes: Mixes, *, mask: Tensor, pad_id: int, compact: bool,
    ) -> dict[str, Any]:  # fmt: skip
        """Pictures and clips as one output."""
        settings: dict[str, Any] = {"mask": mask, "pad_id": pad_id, "compact": compact}
        short = super().shorten(model, inputs, outputs, items, kept, mixes, **settings)
        short["mm_encoder_outputs"] = {"image": join_outputs(next(iter(outputs.values())), items, kept, mixes)}
        return short


def join_outputs(output: Any, items: Sequence[Item], kept: Sequence[Tensor], mixes: Mixes = ()) -> Any:
    """An encoder's output that holds the kept tokens of all items in the order of the prompt."""
    order = sorted(range(len(items)), key=lambda n: (items[n].row, items[n].first))
    features, rows = [items[n].embeds for n in order], [items[n].row for n in order]
    mixing = [mixes[n] for n in order] if mixes else ()
    return kept_output(output, pooler_output=keep_tokens(features, [kept[n] for n in order], rows, mixing))
