"""Aria: learned queries look at an image's patches, as many as its resolution needs; a mixture of experts."""

from dataclasses import replace

from foveate.models.tiling import TiledFamily


class Aria(TiledFamily):
    """Aria; queries without places; several crops in one run may be several images."""

    # a query belongs to no place
    traits = replace(TiledFamily.traits, raster=False)
