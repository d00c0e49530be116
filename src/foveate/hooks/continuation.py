"""Calls that go on from a pruned prompt: the caller counts its whole prompt, the cache holds the shorter one."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.hooks.record import OTHER, RECORD, CachedPrompt, CachedStates, Record, fit_rows
from foveate.models import Family
from foveate.models.generation import has_own_decoder
from foveate.models.sequence import complete_positions, count_positions, find_last_columns
from foveate.pipeline.inputs import check_following, check_positions
from foveate.pipeline.report import PrunedInputs


def count_past(cache: Any, prompt: CachedPrompt) -> int:
    """How many tokens the cache holds behind the prompt."""
    past: int = cache.get_seq_length() - prompt.length
    if past < 0:
        raise InputError("The cache was cropped into its pruned prompt: pass the whole prompt again, without a cache.")
    return past


def continue_call(cache: Any, prompt: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a forward call behind a pruned prompt, as the cache needs them."""
    check_following(inputs)
    new = inputs["input_ids"] if inputs.get("input_ids") is not None else inputs["inputs_embeds"]
    if isinstance(prompt, CachedStates):
        return {**inputs, **_continue_across(prompt, inputs, new, new.shape[1])}
    if not isinstance(prompt, CachedPrompt):
        raise InputError(OTHER)
    check_positions(inputs.get("position_ids"), *new.shape[:2])
    prompt, past, count = fit_rows(prompt, len(new)), count_past(cache, prompt), new.shape[1]
    steps = torch.arange(past, past + count, device=prompt.shift.device).expand(len(new), -1)
    out = {name: value for name, value in inputs.items() if name != "cache_position"}
    out["attention_mask"] = prompt.join_mask(inputs.get("attention_mask"), past, count)
    positions = inputs.get("position_ids")
    if positions is None:
        out["position_ids"] = prompt.next_positions(steps)
    else:
        axes = positions.to(prompt.shift.device).expand(*positions.shape[:-2], len(new), -1) - prompt.shift[:, None]
        if prompt.is_counted and axes.ndim == 3:
            axes = torch.cat([prompt.count_tokens(steps)[None], axes[-3:]])
        prompt.check_positions(axes)
        out["position_ids"] = axes
    return out


def _continue_across(prompt: CachedStates, inputs: Mapping[str, Any], new: Tensor, count: int) -> dict[str, Tensor]:
    """`new` tokens see what the last one of the prompt saw; the last `count` columns of the caller's mask say so too.

    Raises `InputError` for a mask that says something else.
    """
    own = inputs.get("cross_attention_mask")
    prompt = fit_rows(prompt, len(new))
    if own is not None and (prompt.seen is None or bool((own[:, -count:] != prompt.seen.to(own)).any())):
        raise InputError(
            "cross_attention_mask lets new tokens see other tiles than the last token of the prompt, and these were "
            "pruned: leave it out after the prompt."
        )
    return {name: torch.cat([mask] * new.shape[1], dim=1) for name, mask in prompt.masks.items()}


def fit_encoder_mask(prompt: CachedStates | None, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a call with what a separate encoder returned, whose mask covers the caller's whole prompt.

    The mask of the pruned prompt lies on the cache (`prompt`), or on the states themselves.

    Raises `InputError` where neither has it, and the caller's mask does not fit the states.
    """
    states, mask = inputs["encoder_outputs"][0], inputs.get("attention_mask")
    if prompt is None:
        prompt = getattr(states, RECORD, None)
    if prompt is not None:
        return {**inputs, **fit_rows(prompt, len(states)).masks}
    if isinstance(mask, Tensor) and mask.shape[1] != states.shape[1]:
        raise InputError(
            f"attention_mask has {mask.shape[1]} columns, encoder_outputs {states.shape[1]}: pass the tensor that the "
            "pruned call returned, not a copy, or leave the mask out."
        )
    return dict(inputs)


def continue_generate(
    cache: Any, prompt: Record, inputs: Mapping[str, Any], make_mask: Callable[[Tensor], Tensor]
) -> dict[str, Any]:
    """The inputs of `generate` behind a pruned prompt: `input_ids` are the whole conversation or the new tokens.

    `make_mask` makes the mask of a whole conversation that came without one.
    """
    check_following(inputs)
    if isinstance(prompt, CachedStates):
        return {**inputs, **_continue_across(prompt, inputs, inputs["input_ids"], 1)}
    if not isinstance(prompt, CachedPrompt):
        raise InputError(OTHER)
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    prompt, past, width = fit_rows(prompt, len(ids)), count_past(cache, prompt), prompt.layout.width
    is_whole = ids.shape[1] >= width + past if mask is None else mask.shape[1] == ids.shape[1]
    count = ids.shape[1] - width - past if is_whole else ids.shape[1]
    if is_whole and count < 1:
        raise InputError("input_ids hold nothing behind what the cache holds: append the next turn's tokens.")
    out = {name: value for name, value in inputs.items() if name not in ("cache_position", "position_ids")}
    if is_whole:
        mask = make_mask(ids) if mask is None else mask
        out["input_ids"] = torch.cat([prompt.layout.cut(ids[:, :width], 0), ids[:, width:]], dim=1)
    if mask is None:
        mask = torch.ones_like(ids[:, :1]).expand(-1, width + past + count)
    out["attention_mask"] = prompt.join_mask(mask, past, count)
    following = (mask[:, width:].long().cumsum(-1) - 1).clamp(min=0)  # padding behind the prompt does not count
    out["position_ids"] = torch.cat([prompt.positions, prompt.next_positions(following)], dim=-1)
    return out


def make_record(
    model: Any, family: Family, inputs: Mapping[str, Any], pruned: PrunedInputs, *, is_compact: bool
) -> CachedPrompt | CachedStates | None:
    """What a cache filled with these pruned inputs holds; None where later calls need nothing of it.

    `is_compact` says that the tokens that stay were numbered anew.
    """
    layout, positions = pruned.layout, pruned.get("position_ids")
    if has_own_decoder(model) and layout is not None:
        return CachedStates({"attention_mask": pruned["attention_mask"]})
    if "cross_attention_mask" in pruned:
        if pruned.report.kept_count == pruned.report.total_count:
            return None  # all states are there, and the caller's masks fit them
        own = inputs.get("cross_attention_mask")
        masks = {"cross_attention_mask": _take_last(pruned["cross_attention_mask"], pruned["attention_mask"])}
        return CachedStates(masks, None if own is None else _take_last(own, pruned["attention_mask"]))
    if layout is None or positions is None or not family.traits.in_sequence:
        return None
    counted = count_positions(layout.real)
    is_counted = positions.ndim == 3 and len(positions) == 4 and bool((positions[0] == counted).all())
    mask, own = inputs.get("attention_mask"), inputs.get("position_ids")
    mask = torch.ones_like(inputs["input_ids"]) if mask is None else mask
    shift = counted.new_zeros(len(counted))
    if is_compact or family.traits.sequential_positions:
        shift = mask.bool().sum(-1) - layout.real.sum(-1)
        if positions.ndim == 3 or own is not None:
            whole = family.positions(model, inputs, mask) if own is None else complete_positions(own, mask)
            shift = _find_last(whole, mask.bool()) - _find_last(positions, layout.real)
    return CachedPrompt(layout, positions, is_counted, shift, layout.index.shape[1])


def _take_last(values: Tensor, mask: Tensor) -> Tensor:
    """(b, L, ...) -> (b, 1, ...) at the last real token of each row."""
    last = enumerate(find_last_columns(mask).tolist())
    return torch.cat([values[row : row + 1, column : column + 1] for row, column in last])


def _find_last(positions: Tensor, real: Tensor) -> Tensor:
    """(b,) the largest position of each row's real tokens, on any axis but the first of several, which may count."""
    last = positions.masked_fill(~real.to(positions.device), 0).amax(-1)
    return last[1:].amax(0) if last.ndim == 2 else last
