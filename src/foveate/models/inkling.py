"""Inkling: a token for every 40 x 40 pixels; attention by distance, and short convolutions over the neighbours."""

from dataclasses import replace
from itertools import groupby
from typing import Any

from torch import Tensor

from foveate.models.base import Family, Features, Grids, Inputs
from foveate.models.kept import regroup_output
from foveate.models.patches import Patches


class Inkling2(Patches):
    """Inkling 2; distances instead of positions, short convolutions, local windows."""

    traits = replace(Patches.traits, modalities=("image",), sequential_positions=True)

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """The processor counts tokens, not patches."""
        thw = inputs.get("image_grid_thw")
        return [None] * len(features) if thw is None else [(t, h, w) for t, h, w in thw.tolist()]


class Inkling(Family):
    """Inkling; distances instead of positions, short convolutions, local windows; audio passes through.

    Distances and local windows count kept tokens.

    An image is a run of placeholders: its inputs do not tell which squares belong together.
    """

    # the inputs do not tell how wide an image is
    traits = replace(
        Family.traits,
        raster=False,
        sequential_positions=True,
        main_inputs={**Family.traits.main_inputs, "audio": "audio_input_ids"},
    )

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The tower gives all squares in one row."""
        encoded = super().encode(model, inputs, modality)
        if not isinstance(encoded.pooler_output, Tensor):
            return encoded
        tokens = encoded.pooler_output.flatten(0, 1)
        sizes = self.sizes(model.config, inputs) if "input_ids" in inputs else []
        if sum(sizes) != len(tokens):
            sizes = [len(tokens)]  # `items` says that it does not match
        return regroup_output(encoded, tokens.split(sizes))

    def sizes(self, config: Any, inputs: Inputs) -> list[int]:
        """How many tokens every image of the prompt has."""
        rows = [groupby(row) for row in self.placeholders(config, inputs).tolist()]
        return [len(list(run)) for row in rows for is_picture, run in row if is_picture]
