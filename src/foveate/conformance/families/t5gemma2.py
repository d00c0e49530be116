"""T5Gemma 2: the encoder has the configuration of images and markers."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.encoder_decoder import TinyEncoderDecoder
from foveate.conformance.families.gemma3 import TinyGemma


class TinyT5Gemma2(TinyEncoderDecoder, TinyGemma):
    """Tiny models of `T5Gemma2`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Any) -> list[int]:
        """With the markers of the encoder's configuration."""
        return super().prompt_ids(config.encoder, modality, tokens, grid)

    def randomize_zeros(self, model: Any) -> None:
        """The projector and the end marker start at zero."""
        encoder = model.get_encoder()
        encoder.multi_modal_projector.mm_input_projection_weight.normal_()
        model.get_input_embeddings().eoi_embedding.normal_()

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """As the encoder's configuration says."""
        return super().make_inputs(config.encoder, modality, rows, rng)
