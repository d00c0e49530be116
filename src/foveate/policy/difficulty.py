"""Scores of how many tokens an image and a question need, from what is there before the language model runs."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from foveate.method.scoring import scale_min_max, score_peaked_tokens
from foveate.method.tokens import VisualTokens, unit_rows

ENERGY = 0.95  # the share of the squared singular values that the rank holds
SHARP = 8.0  # the inverse temperature of the softmax over a relevance map
NEAR = 0.7  # cosine from which a token stands for another one
LARGEST = 1024  # tokens whose spectrum and cover are computed; of more, that many evenly spread ones


def score_energy_rank(tokens: VisualTokens) -> float:
    """The smallest rank that holds 95 % of the spectral energy of the tokens, as a share of their number.

    `min r: sum_(i <= r) s_i^2 >= 0.95 sum_i s_i^2` of the singular values s of the (n, d) tokens at length 1.

    Source:
        E-AdaPrune, arXiv 2603.05950, which keeps as many tokens as this rank.
    """
    energy = torch.linalg.svdvals(_thin(tokens.embeds)).square()
    reached = energy.cumsum(0) / energy.sum().clamp(min=1e-12)
    return (int((reached < ENERGY).sum()) + 1) / min(len(tokens.embeds), LARGEST)


def score_effective_rank(tokens: VisualTokens) -> float:
    """The exponential of the entropy of the spectral energy, as a share of the number of tokens."""
    energy = torch.linalg.svdvals(_thin(tokens.embeds)).square()
    return _count_effective(energy) / min(len(tokens.embeds), LARGEST)


def score_cover(tokens: VisualTokens) -> float:
    """The share of the tokens, taken farthest first, until every token has one of them within a cosine of 0.7."""
    rows = _thin(tokens.embeds)
    nearest, count = rows @ rows[0], 1
    while count < len(rows) and float(nearest.amin()) < NEAR:
        nearest = torch.maximum(nearest, rows @ rows[int(nearest.argmin())])
        count += 1
    return count / len(rows)


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
        "tokens": count_tokens, "question tokens": count_words, "energy rank": score_energy_rank,
        "effective rank": score_effective_rank, "cover": score_cover, "relevance spread": score_relevance_spread,
        "attention spread": score_attention_spread,
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


def _thin(embeds: Tensor) -> Tensor:
    """Rows of length 1, at most `LARGEST` of them."""
    n = len(embeds)
    step = torch.arange(min(n, LARGEST), device=embeds.device) * n // min(n, LARGEST)
    return unit_rows(embeds[step])


def _count_effective(weights: Tensor) -> float:
    """The exponential of the entropy of weights >= 0: how many of them count."""
    share = weights / weights.sum().clamp(min=1e-12)
    return float(torch.special.entr(share).sum().exp())
