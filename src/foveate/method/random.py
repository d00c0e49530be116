"""Random: the baseline that a method has to beat."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.base import Method
from foveate.method.checks import is_int
from foveate.method.selection import select_top_k
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class Random(Method):
    """Uniform without replacement. `seed` and the number of tokens fix the order; a larger k only adds to a smaller."""

    seed: int = 0

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = "baseline"
    summary: ClassVar[str] = "uniform without replacement, seeded"
    prompt_aware: ClassVar[bool] = False
    spatial: ClassVar[bool] = True  # the seed fixes places, not contents: permuted tokens do not take the choice along

    def __post_init__(self) -> None:
        if not is_int(self.seed) or not 0 <= self.seed < 2**63:
            raise InputError(f"seed={self.seed!r} is not a seed: use an int of 0 or more.")

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        # A generator of its own on the CPU: the global state stays as it is, and every device makes the same choice.
        generator = torch.Generator().manual_seed(int(self.seed))
        scores = torch.randperm(tokens.embeds.shape[0], generator=generator)
        return select_top_k(scores.to(selected.device), k, selected)
