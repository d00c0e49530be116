"""Aria: learned queries look at a picture's patches, as many as its resolution needs; a mixture of experts."""

from __future__ import annotations

from dataclasses import replace

from foveate.models.base import Family


class Aria(Family):
    """`AriaForConditionalGeneration`; the budget is a crop's."""

    # a query belongs to no place
    traits = replace(
        Family.traits, raster=False, summary="Aria; queries without places, every crop counts as a picture"
    )
