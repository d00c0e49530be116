"""dots3-note: audios of different lengths beside images and videos."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.patches import TinyPatches

SAMPLES = (6400, 3000)  # of the audios


class TinyDots3Note(TinyPatches):
    """Tiny models of `Dots3Note`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Audios padded to the longest."""
        if modality != "audio":
            return super().make_inputs(config, modality, rows, rng)
        audio = config.audio_config
        lengths = torch.tensor([SAMPLES[i % len(SAMPLES)] for i in range(sum(rows))])
        features = torch.randn(len(lengths), audio.feature_size, max(SAMPLES) // audio.hop_length, generator=rng)
        return {"input_features": features, "chunk_sample_lengths": lengths}
