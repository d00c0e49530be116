"""DeepSeek-VL and Janus: one picture, one square of tokens, of two towers in the hybrid."""

from __future__ import annotations

from dataclasses import replace

from foveate.models.base import Family


class DeepseekVLHybrid(Family):
    """`DeepseekVLHybridForConditionalGeneration`."""

    traits = replace(Family.traits, summary="DeepSeek-VL 7B; SigLIP and SAM towers side by side")


class Janus(Family):
    """`JanusForConditionalGeneration` where it answers in words."""

    traits = replace(Family.traits, summary="Janus and Janus-Pro; answers in words")
