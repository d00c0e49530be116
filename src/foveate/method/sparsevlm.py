"""SparseVLM: the question tokens that fit the image rate its tokens."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from foveate.method.in_decoder import DecoderMethod, check_layer_shares, select_highest, to_layers
from foveate.method.selection import TIE
from foveate.method.tokens import VisualTokens, unit_rows


@dataclass(frozen=True)
class SparseVLM(DecoderMethod):
    """Drops at several layers: the tokens to which the raters attend most stay.

    The raters are the question tokens whose mean cosine to the visual tokens, both before the first layer, is at least
    the average. Every drop keeps the same share of the tokens, so that `keep` are left after the last.

    Two parts of the paper are left out. `keep`, not the rank of the attention map, decides how many tokens are dropped.
    Dropped tokens are not merged into a few recycled ones.

    Args:
        layers_at: The drops, as ascending shares of the depth. The paper's are after 2, 6 and 15 of 32 layers.

    Source:
        arXiv 2410.04417.
    """

    layers_at: tuple[float, ...] = (2 / 32, 6 / 32, 15 / 32)

    name: ClassVar[str] = "sparsevlm"
    paper: ClassVar[str] = "arXiv 2410.04417"
    summary: ClassVar[str] = "in three stages, the tokens to which the question's visual words attend most"
    reads: ClassVar[Literal["last", "question"]] = "question"

    def __post_init__(self) -> None:
        check_layer_shares(self.layers_at)

    def layers(self, depth: int) -> tuple[int, ...]:
        """Return the layers of the drops, rounded to whole layers."""
        return to_layers(self.layers_at, depth)

    def raters(self, visual: Tensor, question: Tensor) -> Tensor:
        """Select the question tokens whose mean cosine to the visual tokens is at least the average."""
        tokens = VisualTokens(visual, question)
        similarity = unit_rows(tokens.question) @ unit_rows(tokens.embeds).mean(0)
        return (similarity >= similarity.mean() - TIE).nonzero().squeeze(1)

    def _select(self, attention: Tensor, k: int) -> Tensor:
        return select_highest(attention.mean((0, 1)), k)
