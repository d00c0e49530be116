"""Gemma 3n: a convolutional tower whose last map is the image's tokens; every layer reads the ids once more."""

from foveate.models.gemma3 import Gemma


class Gemma3n(Gemma):
    """Gemma 3n; embeddings for every layer, local windows; audio passes through.

    Images of one size; audios stay whole; local windows count kept tokens.
    """
