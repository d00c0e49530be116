"""Scores of how many tokens an image and a question need, from what is there before the language model runs."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from foveate.method.scoring import scale_min_max, score_peaked_tokens
from foveate.method.tokens import VisualTokens, unit_rows

SHARP = 8.0  # the inverse temperature of the softmax over a relevance map
LARGEST = 256  # tokens that are compared with each other; of more, that many evenly spread ones


def score_token_spread(tokens: VisualTokens) -> float:
    """The effective number of directions of the tokens, as a share of their number: 1 if they are orthogonal.

    `(sum_i l_i)^2 / sum_i l_i^2 / n` of the eigenvalues l of the Gram matrix of n tokens at length 1, from its trace
    and its squares: no decomposition.
    """
    n = len(tokens.embeds)
    step = torch.arange(min(n, LARGEST), device=tokens.embeds.device) * n // min(n, LARGEST)
    rows = unit_rows(tokens.embeds[step])
    return float(len(rows) / (rows @ rows.T).square().sum())


def score_relevance_spread(tokens: VisualTokens) -> float:
    """The share of the tokens over which the relevance of the question's words spreads: 1 for a flat map."""
    relevance = scale_min_max(score_peaked_tokens(tokens.embeds, tokens.question))
    return _count_effective((SHARP * relevance).exp()) / len(relevance)


def score_attention_spread(tokens: VisualTokens) -> float:
    """The share of the tokens over which the attention of a first look spreads."""
    return _count_effective(tokens.extra("attention").float()) / len(tokens.embeds)


def count_tokens(tokens: VisualTokens) -> float:
    """The visual tokens of the image."""
    return float(len(tokens.embeds))


def count_words(tokens: VisualTokens) -> float:
    """The tokens of the question."""
    return float(len(tokens.question))


SCORES: Mapping[str, Callable[[VisualTokens], float]] = MappingProxyType(
    {
        "tokens": count_tokens, "question tokens": count_words, "token spread": score_token_spread,
        "relevance spread": score_relevance_spread, "attention spread": score_attention_spread,
    }
)  # fmt: skip
"""The scores by name. "attention spread" needs the attention of a first look, so a method that has one."""


def measure_scores(tokens: VisualTokens) -> dict[str, float]:
    """All scores of one image and question that these tokens have the extras for."""
    names = [name for name in SCORES if name != "attention spread" or tokens.attention is not None]
    with torch.no_grad(), torch.autocast(tokens.embeds.device.type, enabled=False):
        return {name: SCORES[name](tokens) for name in names}


def read_topic(tokens: VisualTokens) -> Tensor:
    """(d,) the direction of the question's mean embedding, in float32: it tells kinds of question apart."""
    if not len(tokens.question):
        return tokens.embeds.new_zeros(tokens.embeds.shape[1]).float()
    return unit_rows(tokens.question.float().mean(0))


def _count_effective(weights: Tensor) -> float:
    """The exponential of the entropy of weights >= 0: how many of them count."""
    share = weights / weights.sum().clamp(min=1e-12)
    return float(torch.special.entr(share).sum().exp())
