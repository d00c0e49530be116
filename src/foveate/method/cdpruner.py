"""CDPruner: diversity conditioned on the question, as a determinantal point process."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.method.base import Method
from foveate.method.scoring import score_pooled
from foveate.method.selection import TIE, select_dpp
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class CDPruner(Method):
    """Greedy MAP of the determinantal point process `L_ij = r_i cos(v_i, v_j) r_j`.

    `r = (x - min x + 1e-6) / (max x - min x)` over the image, where x is the cosine to the mean question embedding.
    The sign of x is plus because v are embeddings of the language model; with a CLIP text tower the paper negates it.
    Without a question, or with one for which all tokens score the same, r = 1: diversity alone.

    Source:
        arXiv 2506.10967.
    """

    name: ClassVar[str] = "cdpruner"
    paper: ClassVar[str] = "arXiv 2506.10967"
    summary: ClassVar[str] = "the most diverse set of tokens, each weighted by its relevance (DPP)"
    prompt_aware: ClassVar[bool] = True

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        return select_dpp(tokens.embeds, self._relevance_map(tokens), k, selected)

    def _relevance_map(self, tokens: VisualTokens) -> Tensor:
        score = score_pooled(tokens.embeds, tokens.question)
        spread = score.amax() - score.amin()
        return torch.where(spread > TIE, (score - score.amin() + 1e-6) / spread, 1.0)
