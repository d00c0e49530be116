"""Models whose encoder reads the images among the words, and whose decoder attends across to its output."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family
from foveate.models.batch import PromptBatch

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
        words = words.masked_scatter(places[..., None], tokens.to(words))
        short["encoder_outputs"] = self.read(model, words, real, short.pop("position_ids"))
        if own.get("decoder_input_ids") is None and own.get("labels") is None:
            own["decoder_input_ids"] = torch.full_like(ids[:, :1], self.begin(model.config))
        return {**short, **own}
