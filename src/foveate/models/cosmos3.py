"""Cosmos 3 reasoners: packed patches of any size, M-RoPE, a timestamp before every frame of a video."""

from dataclasses import replace

from foveate.models.patches import Timestamped
from foveate.models.qwen3_vl import Qwen3VL


class Cosmos3Edge(Timestamped):
    """Cosmos3 Edge; M-RoPE, dynamic resolution, a timestamp before every frame.

    A SigLIP 2 tower, merged patches, an MLP.
    """

    traits = replace(Timestamped.traits, versions=">=5.23")


class Cosmos3Omni(Qwen3VL):
    """Cosmos3 Omni's reasoner, as Qwen3-VL; M-RoPE, DeepStack, a timestamp before every frame.

    Which is Qwen3-VL by another name.
    """

    traits = replace(Qwen3VL.traits, in_decoder=False)
