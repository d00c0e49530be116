"""T5Gemma 2: Gemma 3's pictures among the words of an encoder, whose output a decoder attends across to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.models.base import Inputs
from foveate.models.encoder_decoder import EncoderDecoder
from foveate.models.gemma3 import Gemma

TEXT = {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}


class T5Gemma2(EncoderDecoder, Gemma):
    """`T5Gemma2ForConditionalGeneration`. Its stock encoder runs on the tokens that stay; local windows count those."""

    summary = "T5Gemma 2; encoder and decoder, the encoder reads what stays, local windows"
    tiny = {
        "encoder": {"text_config": TEXT, "vision_config": {"patch_size": 4}, "mm_tokens_per_image": 16},
        "decoder": TEXT,
    }

    def encoder_inputs(self, model: Any, inputs: Inputs, modality: str = "image") -> dict[str, Any]:
        """The pixels."""
        return {name: inputs[name] for name in ("pixel_values",) if inputs.get(name) is not None}

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The text encoder has the tower."""
        ready = (inputs.get("mm_encoder_outputs") or {}).get(modality)
        return (
            model.get_encoder().get_image_features(inputs["pixel_values"], return_dict=True) if ready is None else ready
        )

    def begin(self, config: Any) -> int:
        """As T5Gemma 2's `generate` does."""
        return int(config.decoder.bos_token_id)

    def span(self, config: Any, modality: str, tokens: int, grid: Any) -> list[int]:
        """As the encoder's configuration names the marks."""
        return super().span(config.encoder, modality, tokens, grid)

    def wake(self, model: Any) -> None:
        """The projector and the end mark start at zero."""
        encoder = model.get_encoder()
        encoder.multi_modal_projector.mm_input_projection_weight.normal_()
        model.get_input_embeddings().eoi_embedding.normal_()

    def example(self, config: Any, modality: str, rows: Sequence[int], generator: torch.Generator) -> dict[str, Any]:
        """Of the encoder's configuration."""
        return super().example(config.encoder, modality, rows, generator)
