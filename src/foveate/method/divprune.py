"""DivPrune: the tokens farthest from each other, whatever the question."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from foveate.method.points import FarthestPoints
from foveate.method.selection import FarthestProblem
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class DivPrune(FarthestPoints):
    """Greedy max-min diversity `argmax_j min_{i in S} (1 - cos(v_j, v_i))`, starting from the most isolated token.

    Source:
        arXiv 2503.02175.
    """

    name: ClassVar[str] = "divprune"
    paper: ClassVar[str] = "arXiv 2503.02175"
    summary: ClassVar[str] = "repeatedly the token farthest from those kept"
    prompt_aware: ClassVar[bool] = False

    def make_problem(self, tokens: VisualTokens, k: int, selected: Tensor) -> FarthestProblem:
        """Distances alone, without weights."""
        return FarthestProblem(tokens.embeds, k, selected)
