"""Models whose encoder reads the images among the words, and whose decoder attends across to its output."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.batch import PromptBatch
from foveate.models.gemma import PanAndScan

DECODER = ("decoder_input_ids", "decoder_attention_mask", "decoder_inputs_embeds", "labels")


class EncoderDecoder(Family):
    """The stock encoder runs on the tokens that stay; the decoder gets its output."""

    traits = replace(Family.traits, in_sequence=False)

    def begin(self, config: Any) -> int:
        """The id that a decoder begins with."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its decoder begins with.")

    def read(self, model: Any, words: Tensor, mask: Tensor, positions: Tensor) -> Any:
        """The encoder's output for embedded words and tokens (b, L, d) at these positions (b, L)."""
        return model.get_encoder()(inputs_embeds=words, attention_mask=mask, position_ids=positions)

    def shorten(self, model: Any, batch: PromptBatch) -> dict[str, Any]:
        """The shorter prompt, encoded."""
        own = {name: value for name, value in batch.inputs.items() if name in DECODER}
        prompt = {name: value for name, value in batch.inputs.items() if name not in DECODER}
        short = super().shorten(model, replace(batch, inputs=prompt))
        ids, real = short["input_ids"], short["attention_mask"]
        tokens = torch.cat(list(short.pop("mm_encoder_outputs")["image"].pooler_output))
        places = self.placeholders(model.config, short) & (real != 0)
        words = model.get_input_embeddings()(ids)
        words = words.masked_scatter(places[..., None].to(words.device), tokens.to(words))
        short["encoder_outputs"] = self.read(model, words, real, short.pop("position_ids"))
        if own.get("decoder_input_ids") is None and own.get("labels") is None:
            own["decoder_input_ids"] = torch.full_like(ids[:, :1], self.begin(model.config))
        return {**short, **own}


class Florence2(EncoderDecoder):
    """Florence-2; encoder and decoder, the encoder reads what stays.

    The stock text encoder runs on the tokens that stay, at their own positions.

    It counts positions along the sequence. What it will add to a token is taken off beforehand, for that of the token's
    own position. The first token of an image is the mean of the others.
    """

    # a mean comes first
    traits = replace(EncoderDecoder.traits, raster=False)

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """Columns, padding or not."""
        return torch.arange(mask.shape[1], device=mask.device).expand_as(mask)

    def begin(self, config: Any) -> int:
        """As configured."""
        return int(config.text_config.decoder_start_token_id)

    def read(self, model: Any, words: Tensor, mask: Tensor, positions: Tensor) -> Any:
        """The encoder adds the positions of an unbroken row itself."""
        encoder = model.get_encoder()
        row = torch.arange(words.shape[1], device=words.device).expand_as(positions)
        own, added = (encoder.embed_positions(words, position_ids=places)[0] for places in (positions, row))
        return encoder(inputs_embeds=words + own.to(words) - added.to(words), attention_mask=mask)


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
