"""ZSPAPrune (arXiv 2510.17197): a core that the question points at, balanced by diversity. Zero-shot."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.base import Method
from foveate.method.budget import share_of
from foveate.method.checks import is_number
from foveate.method.scoring import score_pooled, score_token_max, score_token_mean
from foveate.method.selection import TIE, FarthestProblem, select_farthest, select_top_k
from foveate.method.tokens import VisualTokens

_RELEVANCE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"pooled": score_pooled, "word_mean": score_token_mean, "word_max": score_token_max}
)


@dataclass(frozen=True)
class ZSPAPrune(Method):
    """Prompt simplification, a prompt-aware core, a balance of diversity. No attention scores, no training.

    `core` in [0, 1] is the paper's rho, the share of the kept tokens that relevance chooses; 0 is pure diversity
    (DivPrune), 1 pure relevance. The paper sets it by hand per data set; 0.6 is the only value seen in public.
    `relevance` is how the question is simplified: "pooled" is the paper's.
    """

    core: float = 0.6
    relevance: Literal["pooled", "word_mean", "word_max"] = "pooled"

    name: ClassVar[str] = "zspaprune"
    paper: ClassVar[str] = "arXiv 2510.17197"
    summary: ClassVar[str] = "the tokens nearest to the question, then the tokens farthest from those kept"
    prompt_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not is_number(self.core) or not 0 <= self.core <= 1:
            raise InputError(f"core={self.core!r} is not a share: use a float in [0, 1], such as 0.6.")
        if self.relevance not in _RELEVANCE:
            raise InputError(f"relevance={self.relevance!r} is not known: use one of {', '.join(_RELEVANCE)}.")

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        # 1. Prompt simplification: one score per token, s_i = cos(v_i, p) with p = mean_t e_t.
        scores = self._scores(tokens)

        # 2. Prompt-aware selection: the core C, the floor(rho k) most relevant.
        core = self._core(scores, k, selected)

        # 3. Diversity balance: argmin_{j not in S} max_{i in S} cos(v_j, v_i) until |S| = k.
        (balance,) = select_farthest([FarthestProblem(tokens.embeds, k - len(core), torch.cat([selected, core]))])
        return torch.cat([core, balance]).sort().values

    def _scores(self, tokens: VisualTokens) -> Tensor:
        return _RELEVANCE[self.relevance](tokens.embeds, tokens.question)

    def _core(self, scores: Tensor, k: int, selected: Tensor) -> Tensor:
        # A question that is empty or points at nothing makes the map flat; its "highest" would be the picture's first
        # rows, so diversity takes all.
        flat = bool(scores.amax() - scores.amin() <= TIE)
        return select_top_k(scores, 0 if flat else math.floor(share_of(self.core, k)), selected)

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return self._scores(tokens) if self.core else None

    def _core_mask(self, tokens: VisualTokens, kept: Tensor) -> Tensor:
        return torch.isin(kept, self._core(self._scores(tokens), len(kept), kept[:0]))
