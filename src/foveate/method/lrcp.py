"""LRCP: the tokens that the main directions of the image explain least."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.method.base import Method
from foveate.method.checks import check_int
from foveate.method.components import find_components, widen
from foveate.method.selection import TIE, select_top_k
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class LRCP(Method):
    """The k tokens with the largest residual `|(x_i - m) (I - P_r)|^2`.

    x are the tokens in the language model's space, m is their mean, and P_r projects on their `rank` principal
    components. A component whose variance ties with that of the first one left out is left out too: no subspace
    of that rank is dominant then. Each token is scored by itself: tokens that are selected already change nothing, and
    of an odd thing every copy has the same score.

    Args:
        rank: The number of components, 1 or more. 4 is for LLaVA; 8 is recommended for Qwen-VL.

    Source:
        arXiv 2605.15621. The centring and the ranks are those that a public adaptation to vLLM (hht-byte/vllm, LRCP)
        describes. It can also merge dropped tokens and prune again inside the decoder; both are left out.
    """

    rank: int = 4

    name: ClassVar[str] = "lrcp"
    paper: ClassVar[str] = "arXiv 2605.15621"
    summary: ClassVar[str] = "the tokens that the main directions of the image explain least"
    prompt_aware: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_int("rank", self.rank, 1)

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        return select_top_k(_measure_residuals(tokens.embeds, self.rank), k, selected)


def _measure_residuals(embeds: Tensor, rank: int) -> Tensor:
    """Compute the squared residuals (n,), as shares of the mean squared length of the tokens."""
    rows = widen(embeds)
    length = rows.square().sum(1).mean().clamp(min=torch.finfo(rows.dtype).tiny)
    rows = rows - rows.mean(0)
    parts, sizes = find_components(rows, rank + 1)
    variances = sizes.square()
    rest = variances[rank] if len(variances) > rank else variances.new_zeros(())
    dominant = (variances > rest + TIE * variances.sum())[:rank]
    explained = (parts[:, :rank].square() * (variances[:rank] * dominant)).sum(1)
    return (rows.square().sum(1) - explained).clamp(min=0) / length
