"""PyramidDrop (arXiv 2410.17247): fewer and fewer tokens, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from foveate.method.in_decoder import DecoderMethod, check_layer_shares, select_highest, to_layers


@dataclass(frozen=True)
class PyramidDrop(DecoderMethod):
    """A drop at the end of each stage: the tokens that the prompt's last token attends to most stay.

    `layers_at` are the ends of the stages as shares of the depth: 8, 16 and 24 of 32 in the paper. Every drop leaves
    the same share of what there is, such that `keep` is left after the last: keep=0.125 is the paper's 0.5 a stage.
    In a shallow model stages that end at one layer are one. The attention is that of the stage's last layer,
    averaged over its heads.
    """

    layers_at: tuple[float, ...] = (8 / 32, 16 / 32, 24 / 32)

    name: ClassVar[str] = "pyramiddrop"
    paper: ClassVar[str] = "arXiv 2410.17247"
    summary: ClassVar[str] = "in three stages, the tokens that the prompt's last token attends to most"

    def __post_init__(self) -> None:
        check_layer_shares(self.layers_at)

    def layers(self, depth: int) -> tuple[int, ...]:
        """The ends of the stages, rounded to whole layers."""
        return to_layers(self.layers_at, depth)

    def _select(self, attention: Tensor, k: int) -> Tensor:
        return select_highest(attention.mean((0, 1)), k)
