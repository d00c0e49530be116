"""Aria: learned queries look at a picture's patches, as many as its resolution needs; a mixture of experts."""

from __future__ import annotations

from foveate.models.base import Family


class Aria(Family):
    """`AriaForConditionalGeneration`; the budget is a crop's."""

    raster = False  # a query belongs to no place
    summary = "Aria; queries without places, every crop counts as a picture"
