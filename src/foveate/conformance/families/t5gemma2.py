"""T5Gemma 2: Gemma 3's pictures among the words of an encoder, whose output a decoder attends across to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.encoder_decoder import TinyEncoderDecoder
from foveate.conformance.families.gemma3 import TinyGemma


class TinyT5Gemma2(TinyEncoderDecoder, TinyGemma):
    """Tiny models of `T5Gemma2`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Any) -> list[int]:
        """As the encoder's configuration names the marks."""
        return super().prompt_ids(config.encoder, modality, tokens, grid)

    def randomize_zeros(self, model: Any) -> None:
        """The projector and the end mark start at zero."""
        encoder = model.get_encoder()
        encoder.multi_modal_projector.mm_input_projection_weight.normal_()
        model.get_input_embeddings().eoi_embedding.normal_()

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Of the encoder's configuration."""
        return super().make_inputs(config.encoder, modality, rows, rng)
