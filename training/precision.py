"""The data type of products in training, which follows the machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, amp


def choose_precision(device: str) -> torch.dtype:
    """Return bfloat16 on a GPU and on a CPU with units for it, else float32: without them it is far slower."""
    fast = device != "cpu" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def autocast(device: str) -> amp.autocast_mode.autocast:
    """Return the context in which products are computed in the data type of `choose_precision`."""
    precision = choose_precision(device)
    return torch.autocast(device, torch.bfloat16, enabled=precision == torch.bfloat16)


@contextmanager
def orthogonalize_fast() -> Iterator[None]:
    """Let Muon orthogonalize in the data type of `choose_precision`: by itself it takes bfloat16, slow or not."""
    if choose_precision("cpu") == torch.bfloat16:
        yield
        return
    with mock.patch.object(Tensor, "bfloat16", Tensor.clone):
        yield
