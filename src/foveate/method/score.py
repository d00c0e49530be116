"""SCoRe (Salience-Coverage Reduction): the tokens farthest from each other, weighted by their saliency."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from foveate.method.checks import check_not_negative
from foveate.method.points import FarthestPoints
from foveate.method.scoring import to_salience
from foveate.method.selection import FarthestProblem
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class SCoRe(FarthestPoints):
    """Weighted k-centre: greedy by `a_j^alpha min_{i in S} (1 - cos(h_j, h_i))`, starting from `argmax a`.

    h are the tokens before the projector and a their [CLS] attention.

    Args:
        alpha: The influence of saliency, 0 or more.

    Source:
        CVPR 2026.
    """

    alpha: float = 0.8

    name: ClassVar[str] = "score"
    paper: ClassVar[str] = "CVPR 2026 (SCoRe)"
    summary: ClassVar[str] = "repeatedly the salient token far from those kept"
    prompt_aware: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"encoder", "cls_attention"})

    def __post_init__(self) -> None:
        check_not_negative("alpha", self.alpha)

    def make_problem(self, tokens: VisualTokens, k: int, selected: Tensor) -> FarthestProblem:
        """Distances before the projector, weighted by saliency."""
        return FarthestProblem(tokens.extra("encoder"), k, selected, self._weigh(tokens))

    def _weigh(self, tokens: VisualTokens) -> Tensor:
        return to_salience(tokens.extra("cls_attention")) ** self.alpha

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return self._weigh(tokens) if self.alpha else None
