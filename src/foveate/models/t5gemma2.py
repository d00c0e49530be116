"""T5Gemma 2: Gemma 3's images among the words of an encoder, whose output a decoder attends across to."""

from dataclasses import replace
from typing import Any

from foveate.models.base import Inputs
from foveate.models.encoder_decoder import EncoderDecoder
from foveate.models.gemma import PanAndScan


class T5Gemma2(EncoderDecoder, PanAndScan):
    """T5Gemma 2; encoder and decoder, the encoder reads what stays, local windows."""

    traits = replace(EncoderDecoder.traits, overview="first")

    def encoder_inputs(self, model: Any, inputs: Inputs, modality: str = "image") -> dict[str, Any]:
        """The pixels."""
        return {name: inputs[name] for name in ("pixel_values",) if inputs.get(name) is not None}

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The text encoder has the tower."""
        encoded = (inputs.get("mm_encoder_outputs") or {}).get(modality)
        if encoded is None:
            encoded = model.get_encoder().get_image_features(inputs["pixel_values"], return_dict=True)
        return self.join_tiles(model.config, inputs, encoded, modality)

    def begin(self, config: Any) -> int:
        """As T5Gemma 2's `generate` does."""
        return int(config.decoder.bos_token_id)
