"""SparseVLM (arXiv 2410.04417): the words that see the picture rate its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from foveate.method.in_decoder import DecoderMethod, check_layer_shares, select_highest, to_layers
from foveate.method.selection import TIE
from foveate.method.tokens import unit_rows


@dataclass(frozen=True)
class SparseVLM(DecoderMethod):
    """Drops at several layers: the tokens that the raters attend to most stay.

    The raters are the question's tokens whose mean cosine to the picture's tokens, both before the first layer, is at
    least the average. `layers_at` are the drops as shares of the depth: after 2, 6 and 15 layers of 32 in the paper.
    Every drop leaves the same share of what there is, such that `keep` is left after the last.

    Two things of the paper are left out: how many to drop is set by `keep`, not by the rank of the attention map, and
    the dropped tokens are not recycled into a few merged ones.
    """

    layers_at: tuple[float, ...] = (2 / 32, 6 / 32, 15 / 32)

    name: ClassVar[str] = "sparsevlm"
    paper: ClassVar[str] = "arXiv 2410.04417"
    summary: ClassVar[str] = "in three stages, the tokens that the question's visual words attend to most"
    reads: ClassVar[Literal["last", "question"]] = "question"

    def __post_init__(self) -> None:
        check_layer_shares(self.layers_at)

    def layers(self, depth: int) -> tuple[int, ...]:
        """The layers of the drops, rounded to whole layers."""
        return to_layers(self.layers_at, depth)

    def raters(self, visual: Tensor, question: Tensor) -> Tensor:
        """The words whose mean cosine to the picture is at least the average over the words."""
        likeness = unit_rows(question) @ unit_rows(visual).mean(0)
        return (likeness >= likeness.mean() - TIE).nonzero().squeeze(1)

    def _select(self, attention: Tensor, k: int) -> Tensor:
        return select_highest(attention.mean((0, 1)), k)
