"""Granite 4 Vision and Granite Docling."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Inputs
from foveate.models.idefics3 import Idefics3
from foveate.models.kept import keep_tokens, kept_output
from foveate.models.llava_next import Tiled
from foveate.models.prompt_rows import PromptRow, Starts, starts_at_first_tile
from foveate.models.template import Template, granite_template
from foveate.models.visual_input import VisualInput


class Granite4Vision(Tiled):
    """Granite 4 Vision; tiles, newline tokens stay, features enter at several layers.

    Tokens are chosen by the features that enter first.
    """

    def features(self, encoded: Any, modality: str = "image") -> list[Tensor]:
        """Those that enter first."""
        first = min(encoded.deepstack_features, key=lambda pair: pair[0])
        return list(first[1])

    def keep(self, encoded: Any, items: Sequence[VisualInput]) -> Any:
        """At every layer; as pooled tokens too, which beams count."""
        layers = [(layer, keep_tokens(features, items)) for layer, features in encoded.deepstack_features]
        pooled = keep_tokens(self.features(encoded), items)
        return kept_output(encoded, pooler_output=pooled, deepstack_features=layers)

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """Granite's."""
        return granite_template(super().template(config, stop_ids), config.get_text_config().vocab_size)


class GraniteDocling(Idefics3):
    """Granite Docling; tiles, markers of rows and columns stay, DeepStack."""

    def find_starts(self, config: Any, inputs: Inputs, row: PromptRow) -> Starts:
        """By the mark of the first tile: an image of one tile has no overview."""
        return starts_at_first_tile(row)

    def regroup(self, encoded: Any, sizes: Sequence[int]) -> Any:
        """`keep` cuts the levels of DeepStack as the tokens."""
        regrouped = super().regroup(encoded, sizes)
        regrouped.deepstack_features = encoded.deepstack_features
        return regrouped

    def keep(self, encoded: Any, items: Sequence[VisualInput]) -> Any:
        """Of every image, at every layer."""
        tokens = super().keep(encoded, items).pooler_output
        counts = [len(image) for image in self.features(encoded)]
        levels = [torch.cat(list(level)).split(counts) for level in encoded.deepstack_features]
        deep = [keep_tokens(level, items) for level in levels]
        return kept_output(encoded, pooler_output=tokens, deepstack_features=deep)

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """Granite's."""
        return granite_template(super().template(config, stop_ids), config.get_text_config().vocab_size)
