"""Granite Docling: tiles of a fixed number of tokens, and features of several vision layers (DeepStack)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.idefics3 import TinyIdefics3


class TinyGraniteDocling(TinyIdefics3):
    """Tiny models of `GraniteDocling`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Tiles, and blank ones in rows that have fewer."""
        pixels = super().make_inputs(config, modality, rows, rng)["pixel_values"]
        real = torch.arange(max(rows)) < torch.tensor(rows)[:, None]
        return {"pixel_values": pixels, "pixel_attention_mask": real}
