"""How many patches a tower can encode at once within so many bytes."""

from typing import Any

import torch

from foveate.errors import InputError

WIDTHS = 16  # numbers of a patch that are alive together in attention, in widths of the tower
INNER = 3  # in the MLP, in widths of its inner layer, beside HIDDEN of the tower
HIDDEN = 6


def count_patches(tower: Any, memory: int) -> int:
    """How many patches of an image, or of several, the tower encodes at once in `memory` bytes without gradients.

    An upper estimate of what the activations of one block take, beside the weights: attention has the residual, its
    norm, queries, keys and values, their rotated copies in float32 and the output; the MLP its inner layer, thrice.
    Attention itself is taken not to keep its matrix.

    Raises:
        InputError: The tower keeps the matrices of its attention, which grow with the square of the patches.
    """
    if tower.config._attn_implementation == "eager":
        raise InputError(
            'max_encoder_memory cannot bound eager attention, which keeps its matrices: load the model with "sdpa".'
        )
    block = tower.blocks[0]
    linear = [layer for layer in block.modules() if isinstance(layer, torch.nn.Linear)]
    width, inner = int(block.norm1.weight.shape[-1]), max(layer.out_features for layer in linear)
    numbers = max(WIDTHS * width, HIDDEN * width + INNER * inner)
    return memory // (numbers * max(4, int(block.norm1.weight.element_size())))
