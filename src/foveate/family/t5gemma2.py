"""T5Gemma 2: Gemma 3's pictures among the words of an encoder, whose output a decoder attends across to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.family.base import Inputs
from foveate.family.florence2 import DECODER
from foveate.family.gemma3 import Gemma
from foveate.family.item import Item
from foveate.family.kept import Mixes

TEXT = {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}


class T5Gemma2(Gemma):
    """`T5Gemma2ForConditionalGeneration`. Its stock encoder runs on the tokens that stay; local windows count those."""

    in_sequence = False
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

    def shorten(
        self, model: Any, inputs: Inputs, outputs: Mapping[str, Any], items: Sequence[Item], kept: Sequence[Tensor],
        mixes: Mixes, *, mask: Tensor, pad_id: int, compact: bool,
    ) -> dict[str, Any]:  # fmt: skip
        """The shorter prompt, encoded."""
        own = {name: value for name, value in inputs.items() if name in DECODER}
        prompt = {name: value for name, value in inputs.items() if name not in DECODER}
        short = super().shorten(model, prompt, outputs, items, kept, mixes, mask=mask, pad_id=pad_id, compact=compact)
        ids, real = short["input_ids"], short["attention_mask"]
        tokens = torch.cat(list(short.pop("mm_encoder_outputs")["image"].pooler_output))
        words = model.get_input_embeddings()(ids)
        words = words.masked_scatter(
            (self.placeholders(model.config, short) & (real != 0))[..., None], tokens.to(words)
        )
        short["encoder_outputs"] = model.get_encoder()(
            inputs_embeds=words, attention_mask=real, position_ids=short.pop("position_ids")
        )
        if own.get("decoder_input_ids") is None and own.get("labels") is None:
            own["decoder_input_ids"] = torch.full_like(ids[:, :1], model.config.decoder.bos_token_id)
        return {**short, **own}

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

    def prompted(self, config: Any, inputs: Inputs) -> dict[str, Any]:
        """What the decoder begins with."""
        ids = torch.arange(10, 13, device=inputs["input_ids"].device).repeat(len(inputs["input_ids"]), 1)
        ids[:, 0] = config.decoder.bos_token_id
        return {"decoder_input_ids": ids}

    def pick(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """With the row's own decoder."""
        own = inputs["decoder_input_ids"][row : row + 1]
        return {**super().pick(config, inputs, modality, row, items), "decoder_input_ids": own}
