"""SCoRe (CVPR 2026, Salience-Coverage Reduction): the tokens farthest from each other, weighted by their saliency."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from foveate.errors import InputError
from foveate.method.checks import is_number
from foveate.method.points import FarthestPoints
from foveate.method.scoring import to_salience
from foveate.method.selection import FarthestProblem
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class SCoRe(FarthestPoints):
    """Weighted k-centre: from `argmax a` on, greedy by `a_j^alpha min_{i in S} (1 - cos(h_j, h_i))`.

    h are the vision tower's tokens before the projector, a their [CLS] attention. `alpha` >= 0 weighs saliency.
    """

    alpha: float = 0.8

    name: ClassVar[str] = "score"
    paper: ClassVar[str] = "CVPR 2026 (SCoRe)"
    summary: ClassVar[str] = "again and again the salient token far from those kept"
    prompt_aware: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"encoder", "cls_attention"})

    def __post_init__(self) -> None:
        if not is_number(self.alpha) or not 0 <= self.alpha < float("inf"):
            raise InputError(f"alpha={self.alpha!r} is not an exponent: use a float of 0 or more, such as 0.8.")

    def choice(self, tokens: VisualTokens, k: int, selected: Tensor) -> FarthestProblem:
        """By looks to the tower, weighted by saliency."""
        return FarthestProblem(tokens.extra("encoder"), k, selected, self._weight(tokens))

    def _weight(self, tokens: VisualTokens) -> Tensor:
        return to_salience(tokens.extra("cls_attention")) ** self.alpha

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return self._weight(tokens) if self.alpha else None
