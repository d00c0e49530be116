"""ViP-LLaVA: CLIP patches of several layers side by side through an MLP."""

from foveate.models.base import Family


class VipLlava(Family):
    """ViP-LLaVA; features of several vision layers side by side."""
