"""FastV (arXiv 2403.06764): an image is worth half of its tokens after layer 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from foveate.errors import InputError
from foveate.method.checks import is_int
from foveate.method.in_decoder import DecoderMethod, select_highest


@dataclass(frozen=True)
class FastV(DecoderMethod):
    """One drop, after `layer` layers (the paper's K): the tokens that the prompt's last token attends to most.

    The attention is that of the last layer that ran, averaged over its heads. `keep` is what is left from there on.
    """

    layer: int = 2

    name: ClassVar[str] = "fastv"
    paper: ClassVar[str] = "arXiv 2403.06764"
    summary: ClassVar[str] = "after layer 2, the tokens that the prompt's last token attends to most"

    def __post_init__(self) -> None:
        if not is_int(self.layer) or self.layer < 1:
            raise InputError(f"layer={self.layer!r} is no number of layers: use an int from 1, such as 2.")

    def layers(self, depth: int) -> tuple[int, ...]:
        """`layer`, in a model of any depth."""
        del depth
        return (int(self.layer),)

    def _select(self, attention: Tensor, k: int) -> Tensor:
        return select_highest(attention.mean((0, 1)), k)
