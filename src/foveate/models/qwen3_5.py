"""Qwen3.5: merged patches of any size, M-RoPE, and three layers of gated delta rule for one of attention."""

from foveate.models.patches import Timestamped


class Qwen35(Timestamped):
    """Qwen3.5, dense or mixture of experts; M-RoPE, linear attention, a timestamp before every frame.

    The state of the linear layers runs over the kept tokens.
    """
