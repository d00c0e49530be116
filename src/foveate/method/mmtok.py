"""MMTok (arXiv 2508.18264): the tokens that best cover both the question's words and the picture."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.base import Method
from foveate.selection import coverage
from foveate.tokens import VisualTokens, is_number, unit_rows


@dataclass(frozen=True)
class MMTok(Method):
    """Greedy maximum coverage of `W = [P; alpha Q]`, `P = softmax_i(cos(e_t, v_i) / tau_t) / m`,
    `Q = softmax_j(cos(v_i, v_j) / tau_v) / n`.

    `alpha` >= 0 weighs the picture against the question, `tau_v` and `tau_t` > 0 are the temperatures. An empty
    question leaves the rows of Q. The n x n matrix is inherent: every token is a row to be covered, and n = 8192 takes
    two of 256 MiB.
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

    def _select(self, tokens: VisualTokens, k: int, given: Tensor) -> Tensor:
        unit = unit_rows(tokens.embeds)
        rows = (unit @ unit.T / self.tau_v).softmax(1).mul_(self.alpha / unit.shape[0])  # (n, n), alpha Q
        if tokens.question.shape[0]:
            words = unit_rows(tokens.question) @ unit.T  # (m, n)
            rows = torch.cat([(words / self.tau_t).softmax(1) / words.shape[0], rows])
        return coverage(rows, k, given)
