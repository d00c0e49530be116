"""dots3-note: pictures and clips of any size as merged patches, sounds in chunks of a minute, plain positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.patches import TinyPatches

SAMPLES = (6400, 3000)  # of the example's sounds


class TinyDots3Note(TinyPatches):
    """Tiny models of `Dots3Note`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Sounds of different lengths beside the pictures and clips."""
        if modality != "audio":
            return super().make_inputs(config, modality, rows, rng)
        sound = config.audio_config
        lengths = torch.tensor([SAMPLES[i % len(SAMPLES)] for i in range(sum(rows))])
        heard = torch.randn(len(lengths), sound.feature_size, max(SAMPLES) // sound.hop_length, generator=rng)
        return {"input_features": heard, "chunk_sample_lengths": lengths}
