"""Granite 4 Vision and Granite Docling."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Inputs, Masks
from foveate.models.idefics3 import Idefics3
from foveate.models.kept import keep_tokens, kept_output, regroup_output
from foveate.models.llava_next import Tiled
from foveate.models.prompt_rows import PromptRow, Starts, starts_at_first_tile
from foveate.models.template import Template, granite_template
from foveate.models.tiling import split_tokens
from foveate.models.visual_input import VisualInput


class Granite4Vision(Tiled):
    """Granite 4 Vision; tiles, newline tokens stay, features enter at several layers.

    Tokens are chosen by the features that enter first.
    """

    def features(self, encoded: Any, modality: str = "image") -> list[Tensor]:
        """Those that enter first."""
        first = min(encoded.deepstack_features, key=lambda pair: pair[0])
        return list(first[1])

    def projectors(self, core: Any) -> list[Any]:
        """One for each layer."""
        return [*core.layerwise_projectors, *core.spatial_projectors]

    def write_levels(self, encoded: Any, levels: Sequence[list[Tensor]], absent: Masks) -> Any:
        """At every layer."""
        layers = [(layer, level) for (layer, _), level in zip(encoded.deepstack_features, levels, strict=True)]
        return regroup_output(encoded, levels[0], deepstack_features=layers, absent=absent)

    def keep(self, encoded: Any, items: Sequence[VisualInput]) -> Any:
        """At every layer."""
        layers = [(layer, keep_tokens(features, items)) for layer, features in encoded.deepstack_features]
        return kept_output(encoded, keep_tokens(self.features(encoded), items), deepstack_features=layers)

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """Granite's."""
        return granite_template(super().template(config, stop_ids), config.get_text_config().vocab_size)


class GraniteDocling(Idefics3):
    """Granite Docling; tiles, markers of rows and columns stay, DeepStack."""

    def find_starts(self, config: Any, inputs: Inputs, row: PromptRow) -> Starts:
        """By the mark of the first tile: an image of one tile has no overview."""
        return starts_at_first_tile(row)

    def find_real(self, model: Any, inputs: Inputs) -> Tensor:
        """As the mask says."""
        mask: Tensor = inputs["pixel_attention_mask"]
        return mask.flatten()

    def take_tiles(self, model: Any, inputs: Inputs, tiles: Tensor) -> dict[str, Any]:
        """`tile_fine_mask` only says that tiles have four times as many tokens, all of them."""
        fine = inputs.get("tile_fine_mask")
        taken = super().take_tiles(model, {**inputs, "tile_fine_mask": None}, tiles)
        return taken if fine is None else {**taken, "tile_fine_mask": fine}

    def read_levels(self, encoded: Any) -> list[list[Tensor]]:
        """Those of DeepStack too."""
        first = self.features(encoded)
        deep = [torch.cat(list(level)).split(len(first[0])) for level in encoded.deepstack_features]
        return [first, *map(list, deep)]

    def write_levels(self, encoded: Any, levels: Sequence[list[Tensor]], absent: Masks) -> Any:
        """What the router says of some tiles is not kept."""
        return regroup_output(encoded, levels[0], deepstack_features=levels[1:], absent=absent)

    def regroup(self, encoded: Any, sizes: Sequence[int]) -> Any:
        """`keep` cuts the levels of DeepStack as the tokens."""
        entries, levels = split_tokens(self.features(encoded), sizes), encoded.deepstack_features
        return regroup_output(encoded, entries, deepstack_features=levels, router_logits=_router_logits(encoded))

    def keep(self, encoded: Any, items: Sequence[VisualInput]) -> Any:
        """Of every image, at every layer."""
        counts = [len(image) for image in self.features(encoded)]
        levels = [torch.cat(list(level)).split(counts) for level in encoded.deepstack_features]
        deep = [keep_tokens(level, items) for level in levels]
        rows = keep_tokens(self.features(encoded), items)
        return kept_output(encoded, rows, deepstack_features=deep, router_logits=_router_logits(encoded))

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """Granite's."""
        return granite_template(super().template(config, stop_ids), config.get_text_config().vocab_size)


def _router_logits(encoded: Any) -> Tensor | None:
    """What the density router of some checkpoints says of the tiles."""
    return getattr(encoded, "router_logits", None)
