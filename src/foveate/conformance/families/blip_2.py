"""BLIP-2 and InstructBLIP: one placeholder for each query of the Q-Former."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_config import image_size
from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.visual_input import Grid, VisualInput


class TinyBlip2(TinyFamily):
    """Tiny models of `Blip2`."""

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[VisualInput]) -> dict[str, Any]:
        """All patches; the dropped ones are hidden from the queries."""
        states = self.family.encode(model, inputs, self.family.traits.modalities[0]).last_hidden_state
        real = torch.zeros(states.shape[0], states.shape[1], states.shape[2] - 1, dtype=torch.long)
        for own, item in zip(real.flatten(1), items, strict=True):
            own[item.kept] = 1
        real = torch.cat([torch.ones_like(real[..., :1]), real], dim=-1).to(states.device)
        full: dict[str, Any] = self.family.queried(model, inputs, states.flatten(0, 1), real.flatten(0, 1), 0)
        return full

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """One placeholder for each query."""
        return [self.family.token_id(config, modality)] * config.num_query_tokens

    def choose_assistant(self, model: Any) -> Any:
        """The language model: `generate` of the whole model needs an image."""
        return model.language_model

    def randomize_zeros(self, model: Any) -> None:
        """Queries are all alike at first."""
        model.query_tokens.normal_()


class TinyInstructBlip(TinyBlip2):
    """Tiny models of `InstructBlip`."""

    item_inputs = ("qformer_input_ids", "qformer_attention_mask")

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """An instruction of another length for each image."""
        side = image_size(config)
        pixels = torch.randn(sum(rows), 3, side, side, generator=rng)
        ids = torch.randint(10, 300, (sum(rows), 5), generator=rng)
        mask = torch.tensor([[1, 1, 1, 1 - n % 2, 1 - n % 2] for n in range(sum(rows))])
        return {"pixel_values": pixels, "qformer_input_ids": ids, "qformer_attention_mask": mask}


class TinyInstructBlipVideo(TinyInstructBlip):
    """Tiny models of `InstructBlipVideo`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """One placeholder for each query of each frame."""
        frames = 1 if grid is None else grid[0]
        return super().prompt_ids(config, modality, tokens, grid) * frames

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Videos of three frames."""
        made = super().make_inputs(config, modality, [3 * count for count in rows], rng)
        count = sum(rows)
        return {
            "pixel_values": made["pixel_values"].unflatten(0, (count, 3)),
            **{name: made[name][:count] for name in ("qformer_input_ids", "qformer_attention_mask")},
        }
