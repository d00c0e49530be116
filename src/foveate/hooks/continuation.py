"""Calls that go on from a pruned prompt: the caller counts its whole prompt, the cache holds the shorter one."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.hooks.record import OTHER, PrunedPrompt, PrunedStates, fit_rows


def count_past(cache: Any, prompt: PrunedPrompt) -> int:
    """How many tokens the cache holds behind the prompt."""
    past: int = cache.get_seq_length() - prompt.length
    if past < 0:
        raise InputError("The cache was cropped into its pruned prompt: pass the whole prompt again, without a cache.")
    return past


def continue_call(cache: Any, prompt: PrunedPrompt | PrunedStates, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a forward call behind a pruned prompt, as the cache needs them."""
    if isinstance(prompt, PrunedStates):
        new = inputs.get("input_ids")
        return {**inputs, **continue_across(prompt, inputs, 1 if new is None else new.shape[1])}
    if not isinstance(prompt, PrunedPrompt):
        raise InputError(OTHER)
    new = inputs["input_ids"] if inputs.get("input_ids") is not None else inputs["inputs_embeds"]
    prompt, past, count = fit_rows(prompt, len(new)), count_past(cache, prompt), new.shape[1]
    out = {name: value for name, value in inputs.items() if name != "cache_position"}
    out["attention_mask"] = prompt.join_mask(inputs.get("attention_mask"), past, count)
    positions = inputs.get("position_ids")
    if positions is None:
        out["position_ids"] = prompt.next_positions(past, count)
    else:
        axes = positions.to(prompt.shift.device).expand(*positions.shape[:-2], len(new), -1) - prompt.shift[:, None]
        if prompt.is_counted and axes.ndim == 3:
            axes = torch.cat([prompt.count_tokens(past, count)[None], axes[-3:]])
        out["position_ids"] = axes
    return out


def continue_across(prompt: PrunedStates, inputs: Mapping[str, Any], count: int) -> dict[str, Tensor]:
    """New tokens see what the last token of the prompt saw; the last `count` columns of the caller's mask say so too.

    Raises `InputError` for a mask that says something else.
    """
    if inputs.get("decoder_input_ids") is not None:
        return fit_rows(prompt, len(inputs["decoder_input_ids"])).masks
    ids, own = inputs["input_ids"], inputs.get("cross_attention_mask")
    prompt = fit_rows(prompt, len(ids))
    if own is not None and (prompt.seen is None or bool((own[:, -count:] != prompt.seen.to(own)).any())):
        raise InputError(
            "cross_attention_mask lets new tokens see other tiles than the last token of the prompt, and these were "
            "pruned: leave it out after the prompt."
        )
    return {name: torch.cat([mask] * ids.shape[1], dim=1) for name, mask in prompt.masks.items()}


def continue_generate(
    cache: Any, prompt: PrunedPrompt, inputs: Mapping[str, Any], make_mask: Callable[[Tensor], Tensor]
) -> dict[str, Any]:
    """The inputs of `generate` behind a pruned prompt: `input_ids` are the whole conversation or the new tokens.

    `make_mask` makes the mask of a whole conversation that came without one.
    """
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    prompt, past, width = fit_rows(prompt, len(ids)), count_past(cache, prompt), prompt.layout.width
    is_whole = ids.shape[1] > width + past if mask is None else mask.shape[1] == ids.shape[1]
    count = ids.shape[1] - width - past if is_whole else ids.shape[1]
    if is_whole and count < 1:
        raise InputError("input_ids hold nothing behind what the cache holds: append the next turn's tokens.")
    out = {name: value for name, value in inputs.items() if name not in ("cache_position", "position_ids")}
    if is_whole:
        mask = make_mask(ids) if mask is None else mask
        out["input_ids"] = torch.cat([prompt.layout.cut(ids[:, :width], 0), ids[:, width:]], dim=1)
    real = prompt.layout.real.long()
    joined = prompt.join_mask(mask, past, count)
    out["attention_mask"] = torch.cat([real, real.new_ones(len(real), past + count)], 1) if joined is None else joined
    out["position_ids"] = torch.cat([prompt.positions, prompt.next_positions(0, past + count)], dim=-1)
    return out
