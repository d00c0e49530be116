"""Trimmed-Llama: what any head of the first cross-attention layer attends to most."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.method.base import Method
from foveate.method.in_decoder import select_highest
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class TrimmedLlama(Method):
    """The union of the tokens that each head of the first cross-attention layer attends to most.

    For models whose words attend across to the image (`mllama`, `idefics`). With A_hi the attention of the text to
    token i in head h of the first cross-attention layer, `S_m = union_h top-m_i A_hi`. Later layers attend to S_m
    alone.

    Published are the layer, the scores by head "from language sequences", one m for all heads (a ratio of the image's
    tokens), the union, and that keys and values of the later layers are those of the union alone. How the words are
    added up is not established: here A is the mean over the words of the prompt, template included, that see the image.
    Two things differ. The size of a union depends on the image and the question (40 to 50 % by the authors' account),
    while `k` is a number here: the largest S_m that k has room for stays, and what is left of k goes to the tokens of
    S_(m+1) with the lowest sums of ranks over the heads. And the first cross-attention layer attends to the kept tokens
    too, not to all.

    So token i comes before j where `(min_h R_hi, sum_h R_hi)` is smaller, R_hi being how many tokens head h attends to
    more than to i: for every k that is the size of a union, that union is kept.

    Source:
        arXiv 2504.00557: its abstract, the caption of its figure 2, and its authors' summary
        (blog.nota.ai/insights/llama-3-2-vision-token-reduction). The section on the method was not at hand.

    Example:
        short = foveate.prune_inputs(model, inputs, keep=0.5, method="trimmed_llama")
    """

    name: ClassVar[str] = "trimmed_llama"
    paper: ClassVar[str] = "arXiv 2504.00557"
    summary: ClassVar[str] = "what any head of the first cross-attention layer attends to most"
    prompt_aware: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"cross_attention"})

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        return select_highest(self._relevance_map(tokens).index_fill(0, selected, -1.0), k)

    def _relevance_map(self, tokens: VisualTokens) -> Tensor:
        """The share of the tokens that do not come before each one; the same for equal ones."""
        ranks = _count_above(tokens.extra("cross_attention").float().T)  # (heads, n)
        order = ranks.amin(0) * ranks.numel() + ranks.sum(0)  # any sum of ranks is below their number times n
        return 1 - _count_above(-order).float() / len(order)


def _count_above(values: Tensor) -> Tensor:
    """Count for each of (..., n) how many of its row are above it."""
    below = (-values).contiguous()
    return torch.searchsorted(below.sort(-1).values, below)
