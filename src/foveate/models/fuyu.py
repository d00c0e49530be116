"""Fuyu: no tower, patches go straight into the language model, and each row of them ends in a newline of the prompt."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from foveate.models.base import Features, Grids, Inputs
from foveate.models.kept import regroup_output
from foveate.models.llama4 import LastState
from foveate.models.placeholders import match_placeholders
from foveate.models.template import Template
from foveate.models.visual_input import Grid

NEWLINE = 8  # so far behind the placeholder's id; no configuration names it


class Fuyu(LastState):
    """Fuyu; no tower, newlines stay.

    Its processor joins the patches of all images, one a prompt: what a row of the batch shows counts as one image.
    """

    traits = replace(LastState.traits, versions=">=5.21", aliases={"image_patches": "pixel_values"})

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """Image by image."""
        encoded = super().encode(model, inputs, modality)
        tokens = encoded.last_hidden_state
        if not isinstance(tokens, Tensor):
            return encoded
        images = list(tokens)
        if tokens.ndim == 2:
            sizes = [size for size in self.placeholders(model.config, inputs).sum(-1).tolist() if size]
            images = list(tokens.split(sizes)) if sum(sizes) == len(tokens) else [tokens]
        pooled = type(encoded)(last_hidden_state=tokens, pooler_output=tokens)
        return regroup_output(pooled, images, last_hidden_state=images)

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """As many rows as the prompt has, or a square before there is one."""
        if inputs.get("input_ids") is None:
            return super().grids(config, inputs, features, modality)
        grids: list[Grid | None] = []
        for span in match_placeholders(self.placeholders(config, inputs), [len(f) for f in features]):
            rows, count = int((span.columns.diff() > 1).sum()) + 1, len(span.columns)
            grids.append((1, rows, count // rows) if count % rows == 0 else None)
        return grids

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """The newlines of an image are no words."""
        plain = super().template(config, stop_ids)
        return replace(plain, filler=plain.filler | {config.image_token_id + NEWLINE})
