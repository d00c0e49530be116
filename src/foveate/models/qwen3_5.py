"""Qwen3.5: merged patches of any size, M-RoPE, and three layers of gated delta rule for one of attention."""

from __future__ import annotations

from dataclasses import replace

from foveate.models.patches import Timestamped


class Qwen35(Timestamped):
    """`Qwen3_5ForConditionalGeneration`, `Qwen3_5MoeForConditionalGeneration`.

    The state of the linear layers runs over the kept tokens.
    """

    traits = replace(
        Timestamped.traits,
        summary="Qwen3.5, dense or mixture of experts; M-RoPE, linear attention, a timestamp before every frame",
    )
