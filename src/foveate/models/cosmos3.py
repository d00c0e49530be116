"""Cosmos 3 reasoners: packed patches of any size, M-RoPE, a timestamp before every frame of a clip."""

from __future__ import annotations

from dataclasses import replace

from foveate.models.patches import Timestamped
from foveate.models.qwen3_vl import Qwen3VL


class Cosmos3Edge(Timestamped):
    """`Cosmos3EdgeForConditionalGeneration`: a SigLIP 2 tower, merged patches, an MLP."""

    traits = replace(
        Timestamped.traits,
        versions=">=5.23",
        summary="Cosmos3 Edge; M-RoPE, dynamic resolution, a timestamp before every frame",
    )


class Cosmos3Omni(Qwen3VL):
    """`Cosmos3OmniForConditionalGeneration`, which is Qwen3-VL by another name."""

    traits = replace(
        Qwen3VL.traits,
        summary="Cosmos3 Omni's reasoner, as Qwen3-VL; M-RoPE, DeepStack, a timestamp before every frame",
        in_decoder=False,
    )
