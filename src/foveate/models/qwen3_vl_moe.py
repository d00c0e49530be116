"""Qwen3-VL with a mixture of experts: images become tokens as in Qwen3-VL."""

from dataclasses import replace

from foveate.models.qwen3_vl import Qwen3VL


class Qwen3VLMoe(Qwen3VL):
    """Qwen3-VL, mixture of experts; M-RoPE, DeepStack, a timestamp before every frame.

    The router sees the tokens that are left, one by one.
    """

    traits = replace(Qwen3VL.traits, in_decoder=False)
