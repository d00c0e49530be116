"""ZSPAPrune: a core of the tokens nearest to the question, balanced by diversity."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor

from foveate.errors import InputError, describe
from foveate.method.base import Method
from foveate.method.budget import to_fraction
from foveate.method.checks import check_share
from foveate.method.scoring import score_pooled, score_token_max, score_token_mean
from foveate.method.selection import TIE, FarthestProblem, select_farthest, select_top_k
from foveate.method.tokens import VisualTokens

_RELEVANCE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"pooled": score_pooled, "word_mean": score_token_mean, "word_max": score_token_max}
)


@dataclass(frozen=True)
class ZSPAPrune(Method):
    """Prompt simplification, a prompt-aware core, then a balance of diversity; neither attention nor training.

    Args:
        core: The paper's rho, the share of the kept tokens that relevance selects, in [0, 1]; 0 is pure diversity
            (DivPrune), 1 pure relevance. The paper tunes it for each data set; 0.6 is the only published value.
        relevance: How the question is simplified. "pooled", the paper's way, is the cosine to the mean question
            embedding, "word_mean" the mean cosine to the question tokens, "word_max" the cosine to the nearest one.

    Source:
        arXiv 2510.17197.
    """

    core: float = 0.6
    relevance: Literal["pooled", "word_mean", "word_max"] = "pooled"

    name: ClassVar[str] = "zspaprune"
    paper: ClassVar[str] = "arXiv 2510.17197"
    summary: ClassVar[str] = "the tokens nearest to the question, then the tokens farthest from those kept"
    prompt_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_share("core", self.core)
        if not isinstance(self.relevance, str) or self.relevance not in _RELEVANCE:
            raise InputError(f"relevance={describe(self.relevance)} is not known: use one of {', '.join(_RELEVANCE)}.")
        if not self.core:
            object.__setattr__(self, "prompt_aware", False)  # the class is frozen

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        # 1. Prompt simplification: one score per token, s_i = cos(v_i, p) with p = mean_t e_t.
        # 2. Prompt-aware selection: the core C, the floor(rho k) most relevant.
        core = self._select_core(tokens, k, selected)

        # 3. Diversity balance: argmin_{j not in S} max_{i in S} cos(v_j, v_i) until |S| = k.
        (balance,) = select_farthest([FarthestProblem(tokens.embeds, k - len(core), torch.cat([selected, core]))])
        return torch.cat([core, balance]).sort().values

    def _select_core(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        scores = self._score(tokens)
        # Without a question, or with one that fits all tokens alike, the highest scores would be the first rows of the
        # image: diversity selects all.
        flat = bool(scores.amax() - scores.amin() <= TIE)
        return select_top_k(scores, 0 if flat else math.floor(to_fraction(self.core) * k), selected)

    def _score(self, tokens: VisualTokens) -> Tensor:
        return _RELEVANCE[self.relevance](tokens.embeds, tokens.question)

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return self._score(tokens) if self.core else None

    def _core_mask(self, tokens: VisualTokens, kept: Tensor) -> Tensor:
        return torch.isin(kept, self._select_core(tokens, len(kept), kept[:0]))
