"""MMTok (arXiv 2508.18264): the tokens that best cover both the question's words and the picture."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.base import Method
from foveate.method.checks import is_number
from foveate.method.selection import Cosines, select_coverage
from foveate.method.tokens import VisualTokens, unit_rows

BLOCK = 256  # rows of the similarity matrix that exist at a time


@dataclass(frozen=True)
class MMTok(Method):
    """Greedy maximum coverage of `W = [P; alpha Q]`, `P = softmax_i(cos(e_t, v_i) / tau_t) / m`,
    `Q = softmax_j(cos(v_i, v_j) / tau_v) / n`.

    `alpha` >= 0 weighs the picture against the question, `tau_v` and `tau_t` > 0 are the temperatures. An empty
    question leaves the rows of Q. O(n^2) similarities are inherent, since every token is a row to be covered; where the
    matrix would be large they exist a block at a time.
    """

    alpha: float = 0.5
    tau_v: float = 0.2
    tau_t: float = 0.02

    name: ClassVar[str] = "mmtok"
    paper: ClassVar[str] = "arXiv 2508.18264"
    summary: ClassVar[str] = "the tokens that best cover the question's words and the picture"
    prompt_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for field, value in (("tau_v", self.tau_v), ("tau_t", self.tau_t)):
            if not is_number(value) or not 0 < value < float("inf"):
                raise InputError(f"{field}={value!r} is not a temperature: use a float above 0, such as 0.2.")
        if not is_number(self.alpha) or not 0 <= self.alpha < float("inf"):
            raise InputError(f"alpha={self.alpha!r} is not a weight: use a float of 0 or more, such as 0.5.")

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        cosines = Cosines(tokens.embeds)
        affinity = _Affinity(cosines, self._asked(cosines, tokens), self.tau_v, self.alpha / len(tokens.embeds))
        return select_coverage(affinity, k, selected, value=torch.ones_like(cosines.scale))

    def _asked(self, cosines: Cosines, tokens: VisualTokens) -> Tensor:
        """P (m, n)."""
        words = cosines.to(unit_rows(tokens.question)).T
        return (words / self.tau_t).softmax(1) / max(1, len(words))

    def _relevance_map(self, tokens: VisualTokens) -> Tensor:
        """How much of the question's words a token covers by itself: what P adds to its gain in the first step."""
        return self._asked(Cosines(tokens.embeds), tokens).sum(0)


class _Affinity:
    """W, whose first rows are P (m, n)."""

    def __init__(self, cosines: Cosines, asked: Tensor, tau: float, share: float) -> None:
        self.cosines, self.asked, self.tau, self.share = cosines, asked, tau, share
        self.height = len(asked) + asked.shape[1]

    def rows(self, index: Tensor) -> Tensor:
        seen = self._powers(index[index >= len(self.asked)] - len(self.asked)).T
        return torch.cat([self.asked[index[index < len(self.asked)]], seen.softmax(1).mul_(self.share)])

    def column(self, index: Tensor) -> Tensor:
        seen = self._powers(index).squeeze(1).sub_(self._divisors).exp_().mul_(self.share)
        return torch.cat([self.asked[:, index].squeeze(1), seen])

    @cached_property
    def _divisors(self) -> Tensor:
        """(n,): the logarithm of what the softmax of each row of Q divides by."""
        every = torch.arange(self.asked.shape[1], device=self.asked.device)
        return torch.cat([self._powers(some).logsumexp(0) for some in every.split(BLOCK)])

    def _powers(self, index: Tensor) -> Tensor:
        return self.cosines.to(self.cosines.unit(index)).div_(self.tau)  # (n, c), symmetric
