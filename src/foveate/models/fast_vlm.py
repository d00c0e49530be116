"""FastVLM: the last map of a convolutional tower, row by row."""

from foveate.models.base import Family


class FastVlm(Family):
    """FastVLM; convolutional tower."""
