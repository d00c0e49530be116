"""Relevance scores: how much each visual token has to do with the question, or stands out by itself. Pure tensors.

Every score of the question takes `embeds` (n, d) and `question` (m, d) in one space, the language model's, and returns
(n,) in float32, higher = more relevant: cosines in [-1, 1], or differences of cosines. An empty question (m = 0) makes
every token equally relevant: zeros.

The signs are those of the language model's space. Cosines to a CLIP *text tower* on CLIP patch features run the other
way round (CDPruner and TRIM negate them); these functions must not be fed with those.
"""

import torch
from torch import Tensor

from foveate.method.selection import TIE, Cosines
from foveate.method.selection.cosines import split_blocks
from foveate.method.tokens import unit_rows

EVEN = 1e-9  # maps whose third moments sum to less than this are even: their peaks are a thousandth of a cosine


def score_pooled(embeds: Tensor, question: Tensor) -> Tensor:
    """Cosine to the mean question embedding, `cos(v_i, p)` with `p = mean_t e_t` (ZSPAPrune, arXiv 2510.17197)."""
    if question.shape[0] == 0:
        return _flat(embeds)
    return _along(embeds, unit_rows(question.float().mean(0)))


def score_token_mean(embeds: Tensor, question: Tensor) -> Tensor:
    """Mean of the cosines to the question's tokens, `mean_t cos(v_i, e_t)`: each weighs the same, long or short."""
    if question.shape[0] == 0:
        return _flat(embeds)
    return _along(embeds, unit_rows(question).mean(0))


def score_token_max(embeds: Tensor, question: Tensor) -> Tensor:
    """Cosine to the question token that fits best, `max_t cos(v_i, e_t)`: one word is enough."""
    if question.shape[0] == 0:
        return _flat(embeds)
    return Cosines(embeds).to(unit_rows(question)).amax(1)


def score_peaked_tokens(embeds: Tensor, question: Tensor) -> Tensor:
    """Mean of the words' maps above their own means, each word weighted by how peaked its map is.

    `sum_t a_t (c_ti - mean_i c_ti) / sum_t a_t`, `c_ti = cos(v_i, e_t)`, `a_t = max(0, mean_i (c_ti - mean)^3)`, the
    map's third central moment. A word that points at something is high in a few places; one that points at nothing
    (a stop word, the template's) has a low and even map and drops out by the cube, so that no list of such words is
    needed. Where no word's map is peaked, every token is equally relevant: zeros.
    """
    if question.shape[0] == 0:
        return _flat(embeds)
    maps = Cosines(embeds).to(unit_rows(question))  # (n, m)
    rises = maps - maps.mean(0)
    peaked = rises.pow(3).mean(0).clamp(min=0)
    total = peaked.sum()
    return rises @ torch.where(total > EVEN, peaked / total, 0.0)


def to_salience(cls_attention: Tensor) -> Tensor:
    """The [CLS] attention (n,) in units of its mean, in float32: 1 is average. All ones where it is zero everywhere."""
    attention = cls_attention.float()
    mean = attention.mean()
    return torch.where(mean > 0, attention / mean, 1.0)


def scale_min_max(scores: Tensor) -> Tensor:
    """`scores` (n,) stretched to [0, 1]; zeros where they are all the same, as an empty question makes them."""
    low, spread = scores.amin(), scores.amax() - scores.amin()
    return torch.where(spread > TIE, (scores - low) / spread, 0.0)


def _along(embeds: Tensor, direction: Tensor) -> Tensor:
    # Not a matrix product: its rounding depends on a row's place, and duplicate tokens would differ. CDPruner's min-max
    # puts the least relevant at 1e-6, where such a difference is seen.
    return torch.cat([(unit_rows(block) * direction).sum(1) for block in split_blocks(embeds)])


def _flat(embeds: Tensor) -> Tensor:
    return embeds.new_zeros(embeds.shape[0]).float()
