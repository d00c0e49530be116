"""EXAONE 4.5: the tower of Qwen2.5-VL, one-dimensional positions, windowed layers and layers without positions."""

from dataclasses import replace

from foveate.models.patches import Patches


class Exaone45(Patches):
    """EXAONE 4.5; 1-D RoPE in windowed layers, dynamic resolution; generate numbers kept tokens anew.

    The attention window counts kept tokens.

    Its `generate` throws position ids away and numbers the tokens that it receives: there kept tokens move together,
    whatever `positions` says. `forward` keeps them.
    """

    traits = replace(
        Patches.traits,
        note="generate of EXAONE 4.5 numbers the kept tokens anew, whatever positions says; forward does not.",
    )
