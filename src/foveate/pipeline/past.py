"""A cache that the caller filled: with the first words of the prompt it is gone on from, any other one is refused."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.models import Family
from foveate.models.cache import cache_of, count_cached_rows, count_cached_tokens
from foveate.models.sequence import Layout
from foveate.models.visual_input import VisualInput
from foveate.pipeline.report import PrunedInputs


def check_empty(inputs: Mapping[str, Any]) -> None:
    """Raise `InputError` for a cache that holds something, in a call that cannot tell what."""
    if count_cached_tokens(cache_of(inputs)):
        raise InputError(
            "The cache (past_key_values) is filled, and this call does not tell with what: pass images in the whole "
            "conversation without a cache."
        )


def check_past(family: Family, inputs: Mapping[str, Any], items: Sequence[VisualInput], mask: Tensor) -> None:
    """Raise `InputError` for a filled cache unless it may hold the first columns of the prompt, words before images.

    Which words they are no cache tells: as for the stock `generate`, they are the first ones of `input_ids`.
    """
    cache = cache_of(inputs)
    count, first = count_cached_tokens(cache), min((item.first for item in items), default=0)
    if not count:
        return
    if not family.traits.in_sequence or family.traits.reuse in ("nothing", "whole"):
        raise InputError(
            f"{family.model_type} models read a prompt with images in one piece: leave past_key_values out."
        )
    if count > first:
        raise InputError(
            f"The cache (past_key_values) holds {count} tokens, and the first image begins behind {first}: pass a "
            "cache of words before it, or none."
        )
    rows = count_cached_rows(cache)
    if rows is not None and rows != len(mask):
        raise InputError(f"The cache (past_key_values) has {rows} rows, the prompt {len(mask)}: pass one of each row.")
    if not bool(mask.bool().all()):
        raise InputError(
            "The cache (past_key_values) is of a padded batch, whose rows move when they are pruned: pass one row, "
            "rows without padding, or no cache."
        )


def check_in_place(short: Mapping[str, Any], layout: Layout) -> None:
    """Raise `InputError` where the cached tokens of some row have other columns or positions in the pruned prompt."""
    count = count_cached_tokens(cache_of(short))
    if not count:
        return
    if not bool(layout.real.all()):
        raise InputError(
            "The rows of this batch keep different numbers of tokens, so their first words move away from those in the "
            "cache (past_key_values): pass one row, a number as keep, or no cache."
        )
    positions = short["position_ids"][..., :count]
    if bool((positions != torch.arange(count, device=positions.device)).any()):
        raise InputError(
            f"The first {count} tokens of this prompt are not at the positions 0 to {count - 1}, where a cache of them "
            "alone (past_key_values) has them: pass a cache of the words before the image's first mark, or none."
        )


def leave_cached(family: Family, short: PrunedInputs) -> PrunedInputs:
    """The tokens behind those that the cache holds, with the mask of all, as `forward` and `generate` take them."""
    count = count_cached_tokens(cache_of(short))
    if not count or short.layout is None:
        return short
    names = ["input_ids", "inputs_embeds", "labels", "position_ids"]
    if family.traits.reuse == "token":  # else they are read from the start of the sequence
        names += [name for name in short if name.endswith("token_type_ids")]
    cut: dict[str, Any] = {}
    for name in names:
        value = short.get(name)
        if isinstance(value, Tensor):
            cut[name] = value[:, count:] if name == "inputs_embeds" else value[..., count:]
    columns = short.get("logits_to_keep")
    if isinstance(columns, Tensor):
        cut["logits_to_keep"] = columns[columns >= count] - count
    return PrunedInputs({**short, **cut}, short.report, short.layout)
