"""FastVLM: the last map of a convolutional tower, row by row."""

from __future__ import annotations

from dataclasses import replace

from foveate.models.base import Family


class FastVlm(Family):
    """`FastVlmForConditionalGeneration`."""

    traits = replace(Family.traits, summary="FastVLM; convolutional tower")
