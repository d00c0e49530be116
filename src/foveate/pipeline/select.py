"""Step 4: the method selects tokens from each share of the budget; the results are joined to one record an item."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from foveate.method import Method
from foveate.method.tokens import VisualTokens
from foveate.models.visual_input import VisualInput
from foveate.pipeline.budget import Share


@dataclass(frozen=True, eq=False)
class _Selection:
    """What the method selected from a share: all in indices of the item's own tokens."""

    share: Share
    kept: Tensor
    merge_weights: Tensor | None
    relevance: Tensor | None
    core: Tensor | None


def select_tokens(
    items: Sequence[VisualInput], shares: Sequence[Share], questions: Mapping[int, Tensor], method: Method, *,
    explain: bool = False,
) -> list[VisualInput]:  # fmt: skip
    """The items with what is kept of each: the selected and the protected tokens, or all of an item without a share.

    `explain` adds the relevance and the core of every selection, for another pass or two over the tokens.
    """
    whole = {n: read_tokens(items[n], questions, method) for n in dict.fromkeys(share.item for share in shares)}
    tokens = [subset_tokens(whole[share.item], items[share.item], share.candidates) for share in shares]
    selected = method.select_many(tokens, [share.k for share in shares])
    selections: dict[int, list[_Selection]] = {n: [] for n in range(len(items))}
    for share, own, indices in zip(shares, tokens, selected, strict=True):
        selections[share.item].append(
            _Selection(
                share, share.candidates[indices], method.merge_weights(own, indices),
                method.relevance_map(own) if explain else None, method.core_mask(own, indices) if explain else None,
            )
        )  # fmt: skip
    joined = [_join(item, selections[n]) if selections[n] else item for n, item in enumerate(items)]
    if not explain:
        return joined
    return [_explain(item, selections[n]) for n, item in enumerate(joined)]


def read_tokens(item: VisualInput, questions: Mapping[int, Tensor], method: Method) -> VisualTokens:
    """What the method reads of an item: all tokens that are there, the question of its row, the extras it needs."""
    embeds = item.embeds.detach()
    extras = {name: item.extras[name].to(embeds.device) for name in method.needs}
    question = questions[item.row].to(embeds.device, embeds.dtype)
    if item.absent is None:
        return VisualTokens(embeds, question, item.grid, **extras)
    present = item.present.to(embeds.device)
    tokens = VisualTokens(embeds, question, None, **{name: extra[present] for name, extra in extras.items()})
    return tokens if item.grid is None else tokens.place(item.grid, present)


def subset_tokens(tokens: VisualTokens, item: VisualInput, candidates: Tensor) -> VisualTokens:
    """The candidates (c,) of an item's `tokens`; they have a grid where they are whole frames.

    Where a part of an image is absent, the others keep their places; what repeats an earlier frame is no part of it.
    """
    if len(candidates) == item.total:
        return tokens
    grid = None
    if item.grid is not None:
        size = item.grid[1] * item.grid[2]
        count = len(candidates) // size
        if count and len(candidates) == count * size and int(candidates[-1] - candidates[0]) == len(candidates) - 1:
            grid = (count, *item.grid[1:]) if int(candidates[0]) % size == 0 else None
    return tokens.subset(item.find_rows(candidates), grid, of_raster=item.absent is not None and grid is None)


def _join(item: VisualInput, selections: Sequence[_Selection]) -> VisualInput:
    """The item with its protected tokens and those of all selections kept."""
    stays = item.always_kept
    for selection in selections:
        stays[selection.kept] = True
    kept = stays.nonzero().squeeze(1)
    if all(selection.merge_weights is None for selection in selections):
        return replace(item, kept=kept)
    weights = torch.zeros(len(kept), item.total, device=kept.device)
    weights.scatter_(1, kept[:, None], 1.0)  # each keeps its own value, unless the method merges others into it
    for selection in selections:
        if selection.merge_weights is not None:
            rows = torch.searchsorted(kept, selection.kept)[:, None]
            weights[rows, selection.share.candidates[None]] = selection.merge_weights
    return replace(item, kept=kept, merge_weights=weights)


def _explain(item: VisualInput, selections: Sequence[_Selection]) -> VisualInput:
    """The item with the relevance and the core of its selections."""
    relevance = torch.full((item.total,), torch.nan, device=item.kept.device)
    core = torch.zeros_like(item.kept, dtype=torch.bool)
    for selection in selections:
        if selection.relevance is not None:
            relevance[selection.share.candidates] = selection.relevance
        if selection.core is not None:
            core[torch.searchsorted(item.kept, selection.kept)] = selection.core
    has_relevance = any(selection.relevance is not None for selection in selections)
    return replace(item, relevance=relevance if has_relevance else None, core=core)
