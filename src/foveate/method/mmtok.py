"""MMTok: the tokens that best cover both the question tokens and the image."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from foveate.method.base import Method
from foveate.method.checks import check_not_negative, check_positive
from foveate.method.selection import Cosines, select_coverage
from foveate.method.tokens import VisualTokens, unit_rows

BLOCK = 256  # rows of the similarity matrix that exist at a time


@dataclass(frozen=True)
class MMTok(Method):
    """Greedy maximum coverage of `W = [P; alpha Q]`, `P = softmax_i(cos(e_t, v_i) / tau_t) / m`,
    `Q = softmax_j(cos(v_i, v_j) / tau_v) / n`.

    Without a question, W is the rows of Q. O(n^2) similarities are inherent, because every token is a row to cover;
    where the matrix would be large, only a block of it exists at a time.

    Args:
        alpha: The weight of the image against the question, 0 or more.
        tau_v: The temperature of the image's similarities, above 0.
        tau_t: The temperature of the question's similarities, above 0.

    Source:
        arXiv 2508.18264.
    """

    alpha: float = 0.5
    tau_v: float = 0.2
    tau_t: float = 0.02

    name: ClassVar[str] = "mmtok"
    paper: ClassVar[str] = "arXiv 2508.18264"
    summary: ClassVar[str] = "the tokens that best cover the question's words and the image"
    prompt_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("tau_v", self.tau_v)
        check_positive("tau_t", self.tau_t)
        check_not_negative("alpha", self.alpha)

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        cosines = Cosines(tokens.embeds)
        weights = _Affinity(cosines, self._relate(cosines, tokens), self.tau_v, self.alpha / len(tokens.embeds))
        return select_coverage(weights, k, selected, value=torch.ones_like(cosines.scale))

    def _relate(self, cosines: Cosines, tokens: VisualTokens) -> Tensor:
        """Compute P (m, n)."""
        similarity = cosines.compute(unit_rows(tokens.question)).T
        return (similarity / self.tau_t).softmax(1) / max(1, len(similarity))

    def _relevance_map(self, tokens: VisualTokens) -> Tensor:
        """Sum P over the question tokens: its part of a token's gain in the first step."""
        return self._relate(Cosines(tokens.embeds), tokens).sum(0)


class _Affinity:
    """W, as `Weights`; its first rows are P (m, n)."""

    def __init__(self, cosines: Cosines, question: Tensor, tau: float, share: float) -> None:
        self.cosines, self.question, self.tau, self.share = cosines, question, tau, share
        self.height = len(question) + question.shape[1]

    def rows(self, index: Tensor) -> Tensor:
        image = self._exponents(index[index >= len(self.question)] - len(self.question)).T
        return torch.cat([self.question[index[index < len(self.question)]], image.softmax(1).mul_(self.share)])

    def column(self, index: Tensor) -> Tensor:
        image = self._exponents(index).squeeze(1).sub_(self._log_sums).exp_().mul_(self.share)
        return torch.cat([self.question[:, index].squeeze(1), image])

    @cached_property
    def _log_sums(self) -> Tensor:
        """The logarithms (n,) of the divisors in the softmax of Q's rows."""
        every = torch.arange(self.question.shape[1], device=self.question.device)
        return torch.cat([self._exponents(some).logsumexp(0) for some in every.split(BLOCK)])

    def _exponents(self, index: Tensor) -> Tensor:
        return self.cosines.compute(self.cosines.unit(index)).div_(self.tau)  # (n, c), symmetric
