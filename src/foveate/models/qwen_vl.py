"""Qwen2-VL and its successors: M-RoPE, dynamic resolution."""

from dataclasses import replace

from foveate.models.patches import Patches, Timestamped


class Qwen2VL(Patches):
    """Qwen2-VL; M-RoPE, dynamic resolution."""


class Qwen25VL(Patches):
    """Qwen2.5-VL; M-RoPE, dynamic resolution, window attention in the tower."""

    traits = replace(Patches.traits, in_decoder=True)


class Qwen3VL(Timestamped):
    """Qwen3-VL; M-RoPE, dynamic resolution, DeepStack, a timestamp before every frame."""

    traits = replace(Timestamped.traits, in_decoder=True)


class Qwen3VLMoe(Qwen3VL):
    """Qwen3-VL, mixture of experts; M-RoPE, DeepStack, a timestamp before every frame."""

    traits = replace(Qwen3VL.traits, in_decoder=False)


class Qwen35(Timestamped):
    """Qwen3.5, dense or mixture of experts; M-RoPE, linear attention, a timestamp before every frame."""


class Qwen4Exp(Timestamped):
    """Qwen4-Exp; M-RoPE, linear and block-sparse attention, n-gram embeddings, timestamps.

    The linear layers' state, the blocks that attention picks and the n-grams of ids run over the kept tokens.
    """
