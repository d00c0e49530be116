"""SCOPE (arXiv 2510.24214): the tokens that best cover the picture, each weighted by its saliency."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from foveate.errors import InputError
from foveate.method.base import Method
from foveate.method.checks import is_number
from foveate.method.scoring import to_salience
from foveate.method.selection import Cosines, select_coverage
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class Scope(Method):
    """Greedy, by `gain_j = a_j^alpha sum_i max(0, cos(h_i, h_j) - best_i)`.

    h are the vision tower's tokens before the projector, a their [CLS] attention, `best_i` the cosine of token i to the
    nearest kept one, 0 at first. `alpha` >= 0 weighs saliency; 0 is coverage alone. O(n^2) similarities are inherent,
    since every token is a row to be covered; where the matrix would be large they exist a block at a time.
    """

    alpha: float = 1.0

    name: ClassVar[str] = "scope"
    paper: ClassVar[str] = "arXiv 2510.24214"
    summary: ClassVar[str] = "the salient tokens that best cover the picture"
    prompt_aware: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"encoder", "cls_attention"})

    def __post_init__(self) -> None:
        if not is_number(self.alpha) or not 0 <= self.alpha < float("inf"):
            raise InputError(f"alpha={self.alpha!r} is not an exponent: use a float of 0 or more, such as 1.0.")

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        return select_coverage(_Likeness(tokens.extra("encoder")), k, selected, value=self._weight(tokens))

    def _weight(self, tokens: VisualTokens) -> Tensor:
        return to_salience(tokens.extra("cls_attention")) ** self.alpha

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return self._weight(tokens) if self.alpha else None


class _Likeness:
    """The cosines >= 0 of the rows of h (n, d_v)."""

    def __init__(self, rows: Tensor) -> None:
        self.cosines, self.height = Cosines(rows), len(rows)

    def rows(self, index: Tensor) -> Tensor:
        return self.cosines.to(self.cosines.unit(index)).clamp_(min=0).T

    def column(self, index: Tensor) -> Tensor:
        return self.rows(index).squeeze(0)
