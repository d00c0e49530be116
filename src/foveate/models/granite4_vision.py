"""Granite 4 Vision: LLaVA-NeXT's tiles; features of several vision layers, each before a layer of the decoder."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from foveate.models.kept import keep_tokens, kept_output
from foveate.models.llava_next import Tiled
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
