"""HyperCLOVA X SEED Think: the tower of Qwen2.5-VL through a linear layer, one-dimensional positions."""

from dataclasses import replace

from foveate.models.patches import Patches


class HyperCLOVAXVisionV2(Patches):
    """HyperCLOVA X SEED Think; 1-D RoPE, dynamic resolution; generate numbers kept tokens anew.

    Its `generate` throws position ids away and numbers the tokens that it receives: there kept tokens move together,
    whatever `positions` says. `forward` keeps them.
    """

    traits = replace(
        Patches.traits,
        note="generate of HyperCLOVA X numbers the kept tokens anew, whatever positions says; forward does not.",
    )
