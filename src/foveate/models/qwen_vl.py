"""Qwen2-VL and its successors, Qwen-Omni too: M-RoPE, dynamic resolution."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from foveate.errors import InputError
from foveate.models.base import Inputs
from foveate.models.patch_encoder import PatchEncoder
from foveate.models.patches import Patches, Timestamped
from foveate.models.sequence import count_positions


class Qwen2VL(PatchEncoder, Patches):
    """Qwen2-VL; M-RoPE, dynamic resolution."""


class Qwen25VL(PatchEncoder, Patches):
    """Qwen2.5-VL; M-RoPE, dynamic resolution, window attention in the tower."""

    traits = replace(Patches.traits, in_decoder=True)


class Qwen3VL(PatchEncoder, Timestamped):
    """Qwen3-VL; M-RoPE, dynamic resolution, DeepStack, a timestamp before every frame."""

    traits = replace(Timestamped.traits, in_decoder=True)


class Qwen3VLMoe(Qwen3VL):
    """Qwen3-VL, mixture of experts; M-RoPE, DeepStack, a timestamp before every frame."""

    traits = replace(Qwen3VL.traits, in_decoder=False)


class Qwen35(PatchEncoder, Timestamped):
    """Qwen3.5, dense or mixture of experts; M-RoPE, linear attention, a timestamp before every frame."""


class Qwen4Exp(PatchEncoder, Timestamped):
    """Qwen4-Exp; M-RoPE, linear and block-sparse attention, n-gram embeddings, timestamps.

    The linear layers' state, the blocks that attention picks and the n-grams of ids run over the kept tokens.
    """


CHUNK = 100  # frames that Qwen3-Omni's convolutions see together


class Qwen25Omni(PatchEncoder, Patches):
    """Qwen2.5-Omni's thinker; M-RoPE with time in seconds, dynamic resolution; audio too.

    Also with a video's audio between its frames.

    `forward` without an attention mask numbers all tokens in a row, and so does this family; `generate` makes a mask.
    """

    traits = replace(Patches.traits, versions=">=5.21", modalities=("image", "video", "audio"))

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The tower gives all audios in one row."""
        encoded = super().encode(model, inputs, modality)
        if modality == "audio":
            frames = count_frames(inputs)
            if frames is None:
                raise InputError("The lengths of the audios are missing: pass the processor's feature_attention_mask.")
            lengths = self.sound_lengths(frames)
            encoded.pooler_output = encoded.pooler_output.split(lengths.tolist())
        return encoded

    def sound_lengths(self, frames: Tensor) -> Tensor:
        """How many tokens the tower makes of audios of so many frames: it halves them twice."""
        return (frames + 1) // 2 // 2

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """Time runs in seconds, along videos and audios alike."""
        if inputs.get("attention_mask") is None:
            return count_positions(mask).expand(4, -1, -1)
        arguments = {**inputs, "second_per_grids": inputs.get("video_second_per_grid")}
        arguments["audio_seqlens"] = count_frames(inputs)
        return super().positions(model, arguments, mask)


def count_frames(inputs: Inputs) -> Tensor | None:
    """How many frames every audio's spectrogram has; None where there are no audios."""
    mask = inputs.get("feature_attention_mask")
    return inputs.get("audio_feature_lengths") if mask is None else mask.sum(-1)


class Qwen3Omni(Qwen25Omni):
    """Qwen3-Omni's thinker, mixture of experts; M-RoPE with time in seconds, DeepStack; audio too."""

    def sound_lengths(self, frames: Tensor) -> Tensor:
        """Chunk by chunk it halves them three times, rounding up."""
        return (frames // CHUNK) * -(-CHUNK // 8) + (frames % CHUNK + 7) // 8
