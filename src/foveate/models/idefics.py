"""Idefics: gated layers before those of the language model attend across to the images."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Inputs
from foveate.models.cross import CrossAttention, States


class Idefics(CrossAttention):
    """Idefics; cross-attention, with or without a resampler, chosen for diversity alone or by `trimmed_llama`.

    Each token is handed on as an image of its own, which the mask then shows or hides.

    With a resampler its latents are what is kept, else patches. From transformers 5.24 on the stock model cannot
    generate from latents: at the second step it takes them for patches, which are still to be resampled.
    """

    # latents, or patches after a class token
    traits = replace(CrossAttention.traits, versions=">=5.18,<5.24", raster=False, needs_image=True)

    def encoder_inputs(self, model: Any, inputs: Inputs, modality: str = "image") -> dict[str, Any]:
        """Images, of any size where requested."""
        names = ("pixel_values", "interpolate_pos_encoding")
        return {name: inputs[name] for name in names if inputs.get(name) is not None}

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> States:
        """The stock tower, and resampler where there is one. Blank images are padding."""
        core, pixels = model.base_model, inputs["pixel_values"].to(model.dtype)
        interpolate = bool(inputs.get("interpolate_pos_encoding"))
        states = core.vision_model(pixels.flatten(0, 1), interpolate_pos_encoding=interpolate).last_hidden_state
        if model.config.use_resampler:
            states = core.perceiver_resampler(states)
        number = torch.arange(pixels.shape[1], device=pixels.device)
        owner = torch.where(pixels.flatten(2).any(-1), number, -1)
        return States(
            states.reshape(len(pixels), -1, states.shape[-1]), owner.repeat_interleave(states.shape[1], dim=1)
        )

    def seen(self, inputs: Inputs, encoded: States) -> Tensor:
        """As the processor's mask says for every image."""
        images: Tensor = inputs["image_attention_mask"].bool()
        return images.repeat_interleave(encoded.owner.shape[1] // images.shape[2], dim=2)

    def first_cross_attention(self, model: Any) -> Any:
        """In the first of the layers between those of the language model: before its first one."""
        return model.base_model.gated_cross_attn_layers[0].cross_attn

    def across(self, model: Any, states: Tensor, seen: Tensor, real: Tensor) -> dict[str, Any]:
        """Images of one token each."""
        name = "perceiver_embeddings" if model.config.use_resampler else "image_encoder_embeddings"
        return {name: states[:, :, None], "image_attention_mask": (seen & real[:, None]).long()}

    def token_id(self, config: Any, modality: str = "image") -> int:
        """The last of the words beyond the vocabulary marks an image."""
        return int(config.vocab_size + max(config.additional_vocab_size - 1, 0))
