"""SCOPE: the tokens that best cover the image, each weighted by its saliency."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from foveate.method.base import Method
from foveate.method.checks import check_not_negative
from foveate.method.scoring import to_salience
from foveate.method.selection import Cosines, select_coverage
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class Scope(Method):
    """Greedy by `gain_j = a_j^alpha sum_i max(0, cos(h_i, h_j) - best_i)`.

    h are the tokens before the projector, a their [CLS] attention, and `best_i` the cosine of token i to the nearest
    kept one, at first 0. O(n^2) similarities are inherent, because every token is a row to cover; where the matrix
    would be large, only a block of it exists at a time.

    Args:
        alpha: The influence of saliency, 0 or more; 0 is coverage alone.

    Source:
        arXiv 2510.24214.
    """

    alpha: float = 1.0

    name: ClassVar[str] = "scope"
    paper: ClassVar[str] = "arXiv 2510.24214"
    summary: ClassVar[str] = "the salient tokens that best cover the image"
    prompt_aware: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"encoder", "cls_attention"})

    def __post_init__(self) -> None:
        check_not_negative("alpha", self.alpha)

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        return select_coverage(_Similarity(tokens.extra("encoder")), k, selected, value=self._weigh(tokens))

    def _weigh(self, tokens: VisualTokens) -> Tensor:
        return to_salience(tokens.extra("cls_attention")) ** self.alpha

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return self._weigh(tokens) if self.alpha else None


class _Similarity:
    """The cosines between the rows of h (n, d_v), at least 0, as `Weights`."""

    def __init__(self, rows: Tensor) -> None:
        self.cosines, self.height = Cosines(rows), len(rows)

    def rows(self, index: Tensor) -> Tensor:
        return self.cosines.compute(self.cosines.unit(index)).clamp_(min=0).T

    def column(self, index: Tensor) -> Tensor:
        return self.rows(index).squeeze(0)
