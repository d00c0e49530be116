"""Tiny random models of a family and their inputs, by the conventions that most families share."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from foveate.conformance import tiny_config
from foveate.models.base import Family, Inputs
from foveate.models.batch import mark_staying
from foveate.models.visual_input import Grid, VisualInput


class TinyFamily:
    """Tiny models of one family, for the laws.

    A subclass overrides what differs in its family. Those of the built-in families are in
    `foveate.conformance.families`. A plug-in names its own in the entry-point group `foveate.conformance`, under the
    `config.model_type` of its adapter.

    Args:
        family: The adapter of the model family.
    """

    overrides: ClassVar[Mapping[str, Any]] = {}
    """Keyword arguments of the tiny configuration, where `configs.json` has none for the model type."""

    markers: ClassVar[tuple[str, str]] = ("vision_start_token_id", "vision_end_token_id")
    """What the configuration calls the tokens before and after an image, if it has any."""

    item_inputs: ClassVar[tuple[str, ...]] = ()
    """Inputs that have one entry for each image, beside the pixels and those whose name begins with `image_`."""

    may_end_in_image: ClassVar[bool] = True
    """Whether the stock model takes a prompt whose last token is an image's."""

    pads_left: ClassVar[bool] = True
    """Whether its tokenizer pads on the left."""

    def __init__(self, family: Family) -> None:
        self.family: Any = family  # of the adapter class that the subclass belongs to
        self.main_inputs = family.traits.main_inputs

    def make_config(self, **changes: Any) -> Any:
        """The configuration of a tiny model with all of the family's traits; `changes` are further overrides."""
        model_type = self.family.model_type
        overrides = tiny_config.read_overrides(model_type) or self.overrides
        return tiny_config.make_config(model_type, {**overrides, **changes})

    def randomize_zeros(self, model: Any) -> None:
        """Give random values to parameters that start at zero and would hide what they let through."""

    def choose_assistant(self, model: Any) -> Any:
        """The model that drafts for this one in assisted decoding."""
        return model

    def is_recurrent(self, config: Any) -> bool:
        """Whether layers without attention carry a state along the sequence, which a masked token still moves."""
        kinds = getattr(config.get_text_config(), "layer_types", None) or ()
        return any("attention" not in kind or "linear" in kind for kind in kinds)

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """The encoder's inputs for random images (or videos, audios).

        Args:
            config: The model's configuration.
            modality: "image", "video" or "audio".
            rows: How many of them each row of the batch shows. They should differ in size where the model allows it.
            rng: The generator of all random numbers.
        """
        if modality != "image":
            raise NotImplementedError(f"{type(self).__name__} makes no inputs of modality {modality}.")
        side = tiny_config.image_size(config)
        return {self.main_inputs[modality]: torch.randn(sum(rows), 3, side, side, generator=rng)}

    def encode_inputs(self, model: Any, inputs: Inputs, modality: str) -> Any:
        """The encoder's output for these inputs, which have no prompt yet."""
        return self.family.encode(model, inputs, modality)

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """The ids that stand for one image, video or audio in a prompt, as the family's processor writes them.

        Args:
            config: The model's configuration.
            modality: "image", "video" or "audio".
            tokens: How many visual tokens it has.
            grid: (t, h, w) of these, as the adapter's `grids` says.
        """
        around: list[Any] = [getattr(config, name, None) for name in self.markers]
        ids = [self.family.token_id(config, modality)] * tokens
        return ids if None in around else [around[0], *ids, around[1]]

    def prompt_inputs(self, config: Any, inputs: Inputs) -> dict[str, Any]:
        """Inputs that a processor adds once the prompt is known, such as which token sees which image."""
        return {}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The encoder's inputs for one row of the batch.

        Args:
            config: The model's configuration.
            inputs: The inputs of the whole batch.
            modality: "image", or the first modality of a family without images.
            row: Which row of the batch.
            items: Which of all images the row shows.
        """
        names = [self.main_inputs[modality], *self.item_inputs, *(n for n in inputs if n.startswith(f"{modality}_"))]
        return {name: inputs[name][items.start : items.stop] for name in names if name in inputs}

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[VisualInput]) -> dict[str, Any]:
        """The full model's inputs with the dropped tokens masked, positions kept: the reference for pruning."""
        mask = inputs["attention_mask"]
        positions = self.family.positions(model, inputs, mask)
        return {**inputs, "attention_mask": mark_staying(mask, items).long(), "position_ids": positions}
