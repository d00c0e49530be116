"""LLaVA-1.5: CLIP patches through an MLP, one-dimensional rotary positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from foveate.family.base import Family
from foveate.question import Template, default_template

# "USER:" and "ASSISTANT:" as Vicuna's vocabulary spells them, after a blank and at the start of a line or after a
# special token; and the blank and newline that stand around the picture.
VICUNA_ROLES = (
    ((3148, 1001, 29901), (11889, 29901)),
    ((319, 1799, 9047, 13566, 29901), (29909, 1799, 9047, 13566, 29901)),
)
VICUNA_FILLER = frozenset({29871, 13})
VICUNA_VOCABULARIES = (32000, 32064)


class Llava(Family):
    """`LlavaForConditionalGeneration`."""

    summary = "LLaVA-1.5 and kin (LlavaForConditionalGeneration); 1-D RoPE"

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """As the checkpoint's `config.foveate_template` says; Vicuna's roles where the vocabulary is Llama 2's."""
        plain = default_template(config, stop_ids)
        if plain.roles or config.text_config.vocab_size not in VICUNA_VOCABULARIES:
            return plain
        return replace(plain, roles=VICUNA_ROLES, filler=VICUNA_FILLER)

    def tiny_config(self) -> Any:
        """4 x 4 patches, two layers."""
        from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

        text = LlamaConfig(
            vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, bos_token_id=300, eos_token_id=301, pad_token_id=302,
        )  # fmt: skip
        vision = CLIPVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=32,
            patch_size=8, projection_dim=32,
        )  # fmt: skip
        return LlavaConfig(
            vision_config=vision, text_config=text, image_token_index=303, vision_feature_layer=-2, image_seq_length=16
        )

    def example_images(self, config: Any, count: int, generator: torch.Generator) -> tuple[dict[str, Any], list[int]]:
        """Square pictures of the tower's size."""
        side, patch = config.vision_config.image_size, config.vision_config.patch_size
        tokens = (side // patch) ** 2 + (config.vision_feature_select_strategy == "full")
        return {"pixel_values": torch.randn(count, 3, side, side, generator=generator)}, [tokens] * count
