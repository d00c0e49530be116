"""Relevance scores: how well each visual token fits the question, or stands out by itself.

The signs are right for the language model's embedding space. Cosines between a CLIP text tower and CLIP patch features
have the opposite sign (CDPruner and TRIM negate them): do not pass those here.
"""

import torch
from torch import Tensor

from foveate.method.scale import split_blocks
from foveate.method.selection import TIE, Cosines
from foveate.method.tokens import unit_rows

FLAT = 1e-9  # question tokens whose third moments sum to less than this have flat maps: peaks of a thousandth


def score_pooled(embeds: Tensor, question: Tensor) -> Tensor:
    """Compute the cosine to the mean question embedding, `cos(v_i, p)` with `p = mean_t e_t`.

    Args:
        embeds: (n, d) visual tokens v, of any float type.
        question: (m, d) question tokens e in the same space.

    Returns:
        (n,) float32 scores in [-1, 1]; zeros if m = 0.

    Source:
        ZSPAPrune, arXiv 2510.17197.
    """
    if question.shape[0] == 0:
        return _zeros(embeds)
    return _project(embeds, unit_rows(question.float().mean(0)))


def score_token_mean(embeds: Tensor, question: Tensor) -> Tensor:
    """Compute the mean cosine to the question tokens, `mean_t cos(v_i, e_t)`: all weigh the same, whatever their norm.

    Arguments and result are those of `score_pooled`.
    """
    if question.shape[0] == 0:
        return _zeros(embeds)
    return _project(embeds, unit_rows(question).mean(0))


def score_token_max(embeds: Tensor, question: Tensor) -> Tensor:
    """Compute the cosine to the nearest question token, `max_t cos(v_i, e_t)`.

    Arguments and result are those of `score_pooled`.
    """
    if question.shape[0] == 0:
        return _zeros(embeds)
    return Cosines(embeds).compute(unit_rows(question)).amax(1)


def score_peaked_tokens(embeds: Tensor, question: Tensor) -> Tensor:
    """Compute the mean of the question tokens' centred maps, each weighted by how peaked it is.

    `sum_t a_t (c_ti - mean_i c_ti) / sum_t a_t`, `c_ti = cos(v_i, e_t)`, `a_t = max(0, mean_i (c_ti - mean_i c_ti)^3)`.
    The map of a question token that names something in the image is high in a few places. The map of any other (a stop
    word, a template's token) is nearly flat, and the third moment gives it almost no weight: no list of stop words is
    needed.

    Args:
        embeds: (n, d) visual tokens v, of any float type.
        question: (m, d) question tokens e in the same space.

    Returns:
        (n,) float32 differences of cosines; zeros if m = 0 or if no map is peaked.
    """
    maps = Cosines(embeds).compute(unit_rows(question))  # (n, m)
    centred = maps - maps.mean(0)
    peaks = centred.pow(3).mean(0).clamp(min=0)
    total = peaks.sum()
    return centred @ torch.where(total > FLAT, peaks / total, 0.0)


def to_salience(cls_attention: Tensor) -> Tensor:
    """Divide the [CLS] attention (n,) by its mean, in float32: 1 is average. Ones if it is zero everywhere."""
    attention = cls_attention.float()
    mean = attention.mean()
    return torch.where(mean > 0, attention / mean, 1.0)


def scale_min_max(scores: Tensor) -> Tensor:
    """Scale `scores` (n,) to [0, 1]; zeros if all are within TIE, as without a question."""
    low, spread = scores.amin(), scores.amax() - scores.amin()
    return torch.where(spread > TIE, (scores - low) / spread, 0.0)


def _project(embeds: Tensor, direction: Tensor) -> Tensor:
    # Not a matrix product: its rounding depends on a row's place, so duplicate tokens would differ. CDPruner's min-max
    # puts the least relevant at 1e-6, where such a difference is visible.
    return torch.cat([(unit_rows(block) * direction).sum(1) for block in split_blocks(embeds)])


def _zeros(embeds: Tensor) -> Tensor:
    return embeds.new_zeros(embeds.shape[0]).float()
