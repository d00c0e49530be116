"""LLaVA-1.5 and models of its kind: patches through an MLP."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.models.base import Extras, Family, Features, Grids, Inputs
from foveate.models.capture import capture_inputs
from foveate.models.mistral3 import tekken_template
from foveate.models.template import Template, default_template

# "USER:" and "ASSISTANT:" as Vicuna's vocabulary spells them, after a blank and at the start of a line or after a
# special token; and the blank and newline that stand around the image.
VICUNA_ROLES = (
    ((3148, 1001, 29901), (11889, 29901)),
    ((319, 1799, 9047, 13566, 29901), (29909, 1799, 9047, 13566, 29901)),
)
VICUNA_FILLER = frozenset({29871, 13})
VICUNA_VOCABULARIES = (32000, 32064)


class Llava(Family):
    """LLaVA-1.5 and kin (LlavaForConditionalGeneration); 1-D RoPE."""

    traits = replace(Family.traits, in_decoder=True)

    def extras(self, config: Any) -> frozenset[str]:
        """All of them where the tower is CLIP's; the other towers have no [CLS] token."""
        is_clip = config.vision_config.model_type == "clip_vision_model"
        attends = _layer(config.vision_feature_layer, config.vision_config.num_hidden_layers) >= 0
        return frozenset({"encoder", "cls_attention", "keys"}) if is_clip and attends else frozenset()

    def encode_with(self, model: Any, inputs: Inputs, needs: frozenset[str]) -> tuple[Any, list[Extras]]:
        """The stock encoder runs, and what goes into its projector and into one attention layer is looked at."""
        if not needs:
            return super().encode_with(model, inputs, needs)
        core = model.base_model
        tower = getattr(core.vision_tower, "vision_model", core.vision_tower)  # transformers 5.18 wraps it
        chosen = inputs.get("vision_feature_layer")
        chosen = model.config.vision_feature_layer if chosen is None else chosen
        layer = _layer(chosen, len(tower.encoder.layers))
        if layer < 0:
            raise InputError(f"vision_feature_layer={chosen} comes before any attention: use a layer from 1 on.")
        attention = tower.encoder.layers[layer].self_attn
        with capture_inputs(core.multi_modal_projector) as features, capture_inputs(attention) as states:
            encoded = self.encode(model, inputs)
        extras = {"encoder": features[0].detach(), **_cls_row(attention, states[0], features[0].shape[1])}
        return encoded, [{name: extras[name][i] for name in needs} for i in range(len(features[0]))]

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """Squares; with Pixtral's tower images of any size, as `image_sizes` says."""
        sizes, vision = inputs.get("image_sizes"), config.vision_config
        if vision.model_type != "pixtral" or sizes is None or modality != "image":
            return super().grids(config, inputs, features, modality)
        return [(1, int(h) // vision.patch_size, int(w) // vision.patch_size) for h, w in sizes]

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """As the checkpoint's `config.foveate_template` says; Vicuna's roles where the vocabulary is Llama 2's.

        With Pixtral's tower Mistral's.
        """
        plain = default_template(config, stop_ids)
        if config.vision_config.model_type == "pixtral":
            return tekken_template(plain, config.text_config.vocab_size)
        if plain.roles or config.text_config.vocab_size not in VICUNA_VOCABULARIES:
            return plain
        return replace(plain, roles=VICUNA_ROLES, filler=VICUNA_FILLER)


def _layer(chosen: int | Sequence[int], count: int) -> int:
    """Which of the tower's `count` layers makes its features, the deepest where there are several; -1 for none."""
    # Feature layer 0 is what goes into the first layer; from the end they count alike, with one more of them.
    return max(i - 1 if i >= 0 else count + i for i in ([chosen] if isinstance(chosen, int) else chosen))


@torch.no_grad()
def _cls_row(attention: Any, states: Tensor, n: int) -> dict[str, Tensor]:
    """[CLS] attention (b, n) and keys (b, n, d) of a CLIP layer, from its input (b, t, d): the last n of its t tokens.

    Only that row of the softmax is formed, in float32. The [CLS] token comes first, and is a visual token itself
    (n = t) where the feature select strategy is "full".
    """
    heads, width = attention.num_heads, attention.head_dim
    query = attention.q_proj(states[:, :1]).float().unflatten(-1, (heads, width)).transpose(1, 2)  # (b, heads, 1, w)
    keys = attention.k_proj(states)
    by_head = keys.float().unflatten(-1, (heads, width)).transpose(1, 2)  # (b, heads, t, w)
    row = (query @ by_head.mT * attention.scale).softmax(-1).mean(1).squeeze(1)  # (b, t)
    return {"cls_attention": row[:, -n:], "keys": keys[:, -n:]}


class VipLlava(Family):
    """ViP-LLaVA; features of several vision layers side by side."""


class VideoLlava(Llava):
    """Video-LLaVA; images and videos, each with its own tower."""

    traits = replace(
        Llava.traits,
        versions=">=5.21",
        modalities=("image", "video"),
        in_decoder=False,
        aliases={"pixel_values_images": "pixel_values"},
    )

    def extras(self, config: Any) -> frozenset[str]:
        """None: nobody looks into the two towers."""
        return frozenset()

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The stock encoder's frames (b * t, n, d) joined to videos (b, t * n, d)."""
        encoded = super().encode(model, inputs, modality)
        raw = inputs.get(self.traits.main_inputs[modality])
        if modality == "video" and raw is not None:
            encoded.pooler_output = encoded.pooler_output.unflatten(0, raw.shape[:2]).flatten(1, 2)
        return encoded

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """None for videos: every frame begins with its [CLS] token."""
        if modality == "video":
            return [None] * len(features)
        return super().grids(config, inputs, features, modality)


class FastVlm(Family):
    """FastVLM; convolutional tower."""
