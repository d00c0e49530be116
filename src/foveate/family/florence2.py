"""Florence-2: pictures among the words of an encoder, whose output a decoder attends across to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.family.base import Family, Inputs
from foveate.family.item import Grid, Item
from foveate.family.kept import Mixes

DECODER = ("decoder_input_ids", "decoder_attention_mask", "decoder_inputs_embeds", "labels")


class Florence2(Family):
    """`Florence2ForConditionalGeneration`. The stock text encoder runs on the tokens that stay, at their own positions.

    It counts positions along the sequence. What it will add to a token is taken off beforehand, for that of the token's
    own position. The first token of a picture is the mean of the others.
    """

    in_sequence = False
    summary = "Florence-2; encoder and decoder, the encoder reads what stays"
    pads_left = False
    tiny = {
        "text_config": {
            "model_type": "bart", "d_model": 64, "bos_token_id": 300, "eos_token_id": 301, "pad_token_id": 302,
            "decoder_start_token_id": 301, "forced_eos_token_id": None,
        },
        "vision_config": {
            "depths": [1, 1, 1, 1], "embed_dim": [16, 16, 16, 32], "num_heads": [2, 2, 2, 2],
            "num_groups": [2, 2, 2, 2], "window_size": 4, "projection_dim": 64,
        },
        "image_token_id": 303,
    }  # fmt: skip

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """Columns, padding or not."""
        return torch.arange(mask.shape[1], device=mask.device).expand_as(mask)

    def shorten(
        self, model: Any, inputs: Inputs, outputs: Mapping[str, Any], items: Sequence[Item], kept: Sequence[Tensor],
        mixes: Mixes, *, mask: Tensor, pad_id: int, compact: bool,
    ) -> dict[str, Any]:  # fmt: skip
        """The shorter prompt, encoded."""
        own = {name: value for name, value in inputs.items() if name in DECODER}
        prompt = {name: value for name, value in inputs.items() if name not in DECODER}
        short = super().shorten(model, prompt, outputs, items, kept, mixes, mask=mask, pad_id=pad_id, compact=compact)
        ids, places, made = short["input_ids"], short.pop("position_ids"), short.pop("mm_encoder_outputs")
        words = model.get_input_embeddings()(ids)
        where = self.placeholders(model.config, short) & (short["attention_mask"] != 0)
        words = words.masked_scatter(where[..., None], torch.cat(list(made["image"].pooler_output)).to(words))
        encoder = model.get_encoder()
        table, offset = encoder.embed_positions.weight, encoder.embed_positions.offset
        moved = table[places + offset] - table[torch.arange(ids.shape[1], device=ids.device) + offset]
        short["encoder_outputs"] = encoder(inputs_embeds=words + moved, attention_mask=short["attention_mask"])
        if own.get("decoder_input_ids") is None and own.get("labels") is None:
            own["decoder_input_ids"] = torch.full_like(ids[:, :1], model.config.text_config.decoder_start_token_id)
        return {**short, **own}

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """None: a mean comes first."""
        return [None] * len(features)

    def masked(self, model: Any, inputs: Inputs, items: Sequence[Item], kept: Sequence[Tensor]) -> dict[str, Any]:
        """It takes no positions."""
        made = super().masked(model, inputs, items, kept)
        return {name: value for name, value in made.items() if name != "position_ids"}

    def example(self, config: Any, modality: str, rows: Sequence[int], generator: torch.Generator) -> dict[str, Any]:
        """Pictures of 2 x 2 tokens."""
        return {"pixel_values": torch.randn(sum(rows), 3, 64, 64, generator=generator)}

    def prompted(self, config: Any, inputs: Inputs) -> dict[str, Any]:
        """What the decoder begins with."""
        ids = torch.arange(10, 13, device=inputs["input_ids"].device).repeat(len(inputs["input_ids"]), 1)
        ids[:, 0] = config.text_config.decoder_start_token_id
        return {"decoder_input_ids": ids}

    def pick(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """With the row's own decoder."""
        own = inputs["decoder_input_ids"][row : row + 1]
        return {**super().pick(config, inputs, modality, row, items), "decoder_input_ids": own}
