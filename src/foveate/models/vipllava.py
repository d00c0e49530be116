"""ViP-LLaVA: CLIP patches of several layers side by side through an MLP."""

from __future__ import annotations

from dataclasses import replace

from foveate.models.base import Family


class VipLlava(Family):
    """`VipLlavaForConditionalGeneration`."""

    traits = replace(Family.traits, summary="ViP-LLaVA; features of several vision layers side by side")
