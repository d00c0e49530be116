"""Florence-2: images among the words of an encoder, whose output a decoder attends across to."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Inputs
from foveate.models.encoder_decoder import EncoderDecoder


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
        table, offset = encoder.embed_positions.weight, encoder.embed_positions.offset
        row = torch.arange(words.shape[1], device=words.device)
        return encoder(inputs_embeds=words + table[positions + offset] - table[row + offset], attention_mask=mask)
