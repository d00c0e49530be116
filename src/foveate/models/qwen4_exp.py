"""Qwen4-Exp: as Qwen3.5, with attention to chosen blocks, several residual streams and embeddings of n-grams."""

from foveate.models.patches import Timestamped


class Qwen4Exp(Timestamped):
    """Qwen4-Exp; M-RoPE, linear and block-sparse attention, n-gram embeddings, timestamps.

    The linear layers' state, the blocks that attention picks and the n-grams of ids run over the kept tokens.
    """
