"""`FarthestPoints`: the base class of methods that are one problem of farthest points."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from foveate.method.base import Method
from foveate.method.selection import FarthestProblem, select_farthest
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class FarthestPoints(Method):
    """A method that is one problem of farthest points; on a GPU one launch solves those of all images."""

    @abstractmethod
    def make_problem(self, tokens: VisualTokens, k: int, selected: Tensor) -> FarthestProblem:
        """Return the distances and weights, from the arguments of `_select`."""

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        return select_farthest([self.make_problem(tokens, k, selected)])[0]

    def _select_many(self, images: Sequence[VisualTokens], ks: Sequence[int]) -> list[Tensor]:
        none = images[0].embeds.new_empty(0).long()
        return select_farthest([self.make_problem(tokens, k, none) for tokens, k in zip(images, ks, strict=True)])
