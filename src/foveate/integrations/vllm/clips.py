"""Clips: which of their tokens may stay, and the rows of those that do, with the words between them."""

from __future__ import annotations

import torch
from torch import Tensor

from foveate.integrations.vllm.settings import ImagePlan
from foveate.models.visual_input import VisualInput
from foveate.pipeline.budget import Share, find_repeats


def share_budget(n: int, item: VisualInput, k: int) -> list[Share]:
    """The shares of item `n`, of which `k` tokens beside the protected ones stay.

    Tokens that repeat an earlier frame come last: the number is fixed before the encoder runs, so where fewer than `k`
    are new, some that repeat fill it.
    """
    repeats = find_repeats(item)
    new, old = ((item.selectable & mark).nonzero().squeeze(1) for mark in (~repeats, repeats))
    shares = [Share(n, new, min(k, len(new))), Share(n, old, k - len(new))]
    return [share for share in shares if share.k > 0]


def place_kept(plan: ImagePlan, kept: Tensor) -> Tensor:
    """The places of what stays among all tokens of an image or clip: its words and the `kept` visual tokens (k,)."""
    if not plan.words:
        return kept
    visual = torch.tensor(plan.visual, device=kept.device)[kept]
    return torch.cat([visual, visual.new_tensor([place for place, _ in plan.words])]).sort().values


def insert_words(rows: Tensor, plan: ImagePlan, places: Tensor, words: Tensor) -> Tensor:
    """The rows (k, d) of kept tokens with the embeddings (w, e) of the words between them, at `places` (k + w,).

    Further columns, which are those of DeepStack, are zero in the row of a word.
    """
    if not plan.words:
        return rows
    is_word = torch.isin(places, places.new_tensor([place for place, _ in plan.words]))
    joined = rows.new_zeros(len(places), rows.shape[1])
    joined[~is_word] = rows
    joined[is_word, : words.shape[1]] = words.to(rows)
    return joined
