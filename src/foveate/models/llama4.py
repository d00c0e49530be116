"""Llama 4: tiles of one size, pixel-shuffled; the model itself projects them into the language model's space."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from foveate.models.base import Family, Inputs, Masks
from foveate.models.kept import keep_tokens, kept_state, regroup_output
from foveate.models.prompt_rows import PromptRow, Starts, starts_with
from foveate.models.template import Template, open_with
from foveate.models.tiling import TiledFamily, split_tokens
from foveate.models.visual_input import Tiles, VisualInput

SPECIAL, HEADER_START = 200000, 200005  # of Llama 4: the first special id, and the one that opens a turn


class LastState(Family):
    """Models that read the last hidden state of their encoder's output."""

    def keep(self, encoded: Any, items: Sequence[VisualInput]) -> Any:
        """What the model reads, and the same as pooled tokens, which beams count."""
        return kept_state(keep_tokens(encoded.last_hidden_state, items))


class Llama4(TiledFamily, LastState):
    """Llama 4; tiles, chunked attention, experts.

    Chunks and temperature of attention count kept tokens.

    Tokens are mixed before the projector, which has no bias and no activation.
    """

    traits = replace(LastState.traits, versions=">=5.18,<5.24", overview="last", placed=False)

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """With the projected tokens as pooled ones."""
        encoded = LastState.encode(self, model, inputs, modality)
        if getattr(encoded, "pooler_output", None) is None:
            state = encoded.last_hidden_state
            encoded = type(encoded)(last_hidden_state=state, pooler_output=model.multi_modal_projector(state))
        return self.join_tiles(model.config, inputs, encoded, modality)

    def regroup(self, encoded: Any, sizes: Sequence[int]) -> Any:
        """What the model reads too."""
        entries, states = (split_tokens(tokens, sizes) for tokens in (encoded.pooler_output, encoded.last_hidden_state))
        return regroup_output(encoded, entries, last_hidden_state=states)

    def read_levels(self, encoded: Any) -> list[list[Tensor]]:
        """What the model reads too."""
        return [self.features(encoded), list(encoded.last_hidden_state)]

    def write_levels(self, encoded: Any, levels: Sequence[list[Tensor]], absent: Masks) -> Any:
        """What the model reads too."""
        return regroup_output(encoded, levels[0], last_hidden_state=levels[1], absent=absent)

    def find_starts(self, config: Any, inputs: Inputs, row: PromptRow) -> Starts:
        """By the mark of an image's beginning."""
        return starts_with(row, config.boi_token_id)

    def find_tiles(self, config: Any, inputs: Inputs, item: VisualInput) -> Tiles:
        """None: an image is padded to a canvas of tiles, and nothing tells how much of it."""
        return ()

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """As configured; ends of headers, and separators of tiles, stand inside a turn."""
        plain, size = super().template(config, stop_ids), config.get_text_config().vocab_size
        return open_with(HEADER_START, plain, range(SPECIAL, size)) if size > HEADER_START else plain

    def decoder(self, model: Any) -> Any:
        """Without its head."""
        return model.language_model.model
