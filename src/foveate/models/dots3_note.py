"""dots3-note: images and videos of any size as merged patches, audios in chunks of a minute, plain positions."""

from dataclasses import replace
from typing import Any

from foveate.models.base import Inputs
from foveate.models.patches import Patches


class Dots3Note(Patches):
    """dots3-note, mixture of experts; 1-D RoPE, dynamic resolution, sparse attention; audio too.

    The budget of an audio is for every chunk of a minute.

    The local windows, and the keys that the sparse layers pick, count kept tokens.
    """

    traits = replace(Patches.traits, modalities=("image", "video", "audio"))

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The tower gives all chunks of audio in one row."""
        encoded = super().encode(model, inputs, modality)
        if modality == "audio":
            each = model.config.audio_config.samples_per_token
            encoded.pooler_output = encoded.pooler_output.split((-(-inputs["chunk_sample_lengths"] // each)).tolist())
        return encoded
