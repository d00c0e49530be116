"""Random: the baseline that a method must beat."""

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
    """Uniform without replacement. The tokens of a smaller k are a subset of those of a larger k.

    Args:
        seed: The order depends only on the seed and the number of tokens. 0 or more, below 2^63.
    """

    seed: int = 0

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = "baseline"
    summary: ClassVar[str] = "uniform without replacement, seeded"
    prompt_aware: ClassVar[bool] = False
    spatial: ClassVar[bool] = True  # it selects positions: permuted tokens do not permute the selection

    def __post_init__(self) -> None:
        if not is_int(self.seed) or not 0 <= self.seed < 2**63:
            raise InputError(f"seed={self.seed!r} is not a seed: use an int of 0 or more.")

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        # Its own generator, on the CPU: the global state is unchanged and every device selects the same tokens.
        generator = torch.Generator().manual_seed(int(self.seed))
        scores = torch.randperm(len(tokens.embeds), generator=generator, device="cpu")
        return select_top_k(scores.to(selected.device), k, selected)
