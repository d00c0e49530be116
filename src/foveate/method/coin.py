"""CoIn (CVPR 2026, Coverage and Informativeness): informative tokens that span a large volume."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.base import Method
from foveate.method.checks import is_number
from foveate.method.scoring import scale_min_max, score_pooled
from foveate.method.selection import select_log_volume
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class CoIn(Method):
    """Greedy maximum of `(1 - coverage) sum_{i in S} s_i + coverage log det(V_S V_S' + ridge I)`.

    `s_i = saliency mm(|v_i|) + (1 - saliency) mm(cos(v_i, p))`, where v are the tokens in the language model's space,
    p the mean question embedding and mm the min-max over the image, 0 for a flat map or without a question; V holds
    the v_i at length 1. It needs no attention. `coverage` and `saliency` lie in [0, 1], `ridge` in [0.001, 1]; the
    paper asks for coverage >= 0.5, the other two defaults are ours.
    """

    coverage: float = 0.5
    saliency: float = 0.5
    ridge: float = 0.01

    name: ClassVar[str] = "coin"
    paper: ClassVar[str] = "CVPR 2026 (CoIn)"
    summary: ClassVar[str] = "strong and relevant tokens that span the largest volume"
    prompt_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for field, value in (("coverage", self.coverage), ("saliency", self.saliency)):
            if not is_number(value) or not 0 <= value <= 1:
                raise InputError(f"{field}={value!r} is not a share: use a float in [0, 1], such as 0.5.")
        if not is_number(self.ridge) or not 0.001 <= self.ridge <= 1:
            # Below, float32 cannot tell what is left of a token from the noise of its cosines.
            raise InputError(f"ridge={self.ridge!r} is out of range: use a float from 0.001 to 1, such as 0.01.")

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        informative = self._informative(tokens)
        return select_log_volume(tokens.embeds, informative, k, selected, share=self.coverage, ridge=self.ridge)

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return self._informative(tokens) if self.coverage < 1 else None

    def _informative(self, tokens: VisualTokens) -> Tensor:
        norms = tokens.embeds.float().norm(dim=1)
        strong = scale_min_max(norms / norms.amax().clamp(min=torch.finfo(norms.dtype).tiny))
        fits = scale_min_max(score_pooled(tokens.embeds, tokens.question))
        return self.saliency * strong + (1 - self.saliency) * fits
