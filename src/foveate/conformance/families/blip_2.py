"""BLIP-2 and InstructBLIP: a Q-Former's queries attend across to the patches; the prompt holds what becomes of them."""

from __future__ import annotations

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
        """All patches, the dropped ones hidden from the queries."""
        states = self.family.encode(model, inputs, self.family.traits.modalities[0]).last_hidden_state
        real = torch.zeros(states.shape[0], states.shape[1], states.shape[2] - 1, dtype=torch.long)
        for own, item in zip(real.flatten(1), items, strict=True):
            own[item.kept] = 1
        real = torch.cat([torch.ones_like(real[..., :1]), real], dim=-1).to(states.device)
        full: dict[str, Any] = self.family.queried(model, inputs, states.flatten(0, 1), real.flatten(0, 1), 0)
        return full

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """One placeholder a query."""
        return [self.family.token_id(config, modality)] * config.num_query_tokens

    def choose_assistant(self, model: Any) -> Any:
        """The language model: its own `generate` asks for a picture."""
        return model.language_model

    def randomize_zeros(self, model: Any) -> None:
        """Queries start out all alike."""
        model.query_tokens.normal_()


class TinyInstructBlip(TinyBlip2):
    """Tiny models of `InstructBlip`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Instructions of different lengths."""
        side = image_size(config)
        pixels = torch.randn(sum(rows), 3, side, side, generator=rng)
        ids = torch.randint(10, 300, (sum(rows), 5), generator=rng)
        mask = torch.tensor([[1, 1, 1, 1 - n % 2, 1 - n % 2] for n in range(sum(rows))])
        return {"pixel_values": pixels, "qformer_input_ids": ids, "qformer_attention_mask": mask}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """One instruction a picture."""
        names = (self.family.traits.main_inputs[modality], "qformer_input_ids", "qformer_attention_mask")
        return {name: inputs[name][items.start : items.stop] for name in names}


class TinyInstructBlipVideo(TinyInstructBlip):
    """Tiny models of `InstructBlipVideo`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """One placeholder a query of each frame."""
        frames = 1 if grid is None else grid[0]
        return super().prompt_ids(config, modality, tokens, grid) * frames

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Clips of three frames."""
        made = super().make_inputs(config, modality, [3 * count for count in rows], rng)
        count = sum(rows)
        return {
            "pixel_values": made["pixel_values"].unflatten(0, (count, 3)),
            **{name: made[name][:count] for name in ("qformer_input_ids", "qformer_attention_mask")},
        }
