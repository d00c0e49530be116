"""CoIn (Coverage and Informativeness): informative tokens that span a large volume."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.method.base import Method
from foveate.method.checks import check_between, check_share
from foveate.method.scoring import scale_min_max, score_pooled
from foveate.method.selection import select_log_volume
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class CoIn(Method):
    """Greedy maximum of `(1 - coverage) sum_{i in S} s_i + coverage log det(V_S V_S' + ridge I)`.

    `s_i = saliency mm(|v_i|) + (1 - saliency) mm(cos(v_i, p))`, where v are the tokens in the language model's space,
    p is the mean question embedding and mm the min-max over the image (0 for a flat map or without a question). The
    rows of V are the v_i, scaled to length 1. No attention is needed.

    Args:
        coverage: The weight of the volume, in [0, 1]. The paper recommends 0.5 or more.
        saliency: The weight of the norm against the relevance, in [0, 1]. The default is ours.
        ridge: Added to the diagonal, from 0.001 to 1. The default is ours.

    Source:
        CVPR 2026.
    """

    coverage: float = 0.5
    saliency: float = 0.5
    ridge: float = 0.01

    name: ClassVar[str] = "coin"
    paper: ClassVar[str] = "CVPR 2026 (CoIn)"
    summary: ClassVar[str] = "strong and relevant tokens that span the largest volume"
    prompt_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_share("coverage", self.coverage)
        check_share("saliency", self.saliency)
        check_between("ridge", self.ridge, 0.001, 1)  # below, the residuals drown in the float32 noise of the cosines
        if 1 in (self.coverage, self.saliency):
            object.__setattr__(self, "prompt_aware", False)  # the class is frozen

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        bonus = self._inform(tokens)
        return select_log_volume(tokens.embeds, bonus, k, selected, share=self.coverage, ridge=self.ridge)

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return self._inform(tokens) if self.coverage < 1 else None

    def _inform(self, tokens: VisualTokens) -> Tensor:
        """Compute s (n,)."""
        norms = tokens.embeds.float().norm(dim=1)
        strength = scale_min_max(norms / norms.amax().clamp(min=torch.finfo(norms.dtype).tiny))
        relevance = scale_min_max(score_pooled(tokens.embeds, tokens.question))
        return self.saliency * strength + (1 - self.saliency) * relevance
