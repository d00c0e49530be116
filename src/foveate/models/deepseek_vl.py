"""DeepSeek-VL and Janus: one image, one square of tokens, of two towers in the hybrid."""

from foveate.models.base import Family


class DeepseekVLHybrid(Family):
    """DeepSeek-VL 7B; SigLIP and SAM towers side by side."""


class Janus(Family):
    """Janus and Janus-Pro; answers in words."""
