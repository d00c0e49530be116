"""`attach` for in-decoder methods: hooks on a live model, and a record of the caches that it filled.

One hook before and one after the model's `forward` open and close a call. One before and one after each decoder layer,
from the first drop on, cut the sequence down. Nothing is replaced, and `generate` is the stock one.

Tokens are selected once, in the call that brings the images, by the last token of its prompt. Without a cache every
step of `generate` selects again, by the newest token; with `prefill_chunk_size` the last token of the chunk with the
images decides. Hidden states and attentions, where requested, are of the tokens that a layer held.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError, ModelError
from foveate.hooks.attention import check_stack
from foveate.hooks.call import DecodeCall, PrefillCall
from foveate.hooks.copies import hide_from_copies, show_to_copies
from foveate.hooks.entry import find_marked, guard_base, has_raw, list_encoded, read_arguments
from foveate.hooks.handles import ShownHandle
from foveate.hooks.prompt import Prompt, check_call, count_answer_tokens, rate_images
from foveate.hooks.record import fit_rows, forget_prompt, open_cache, read_prompt, record_prompt
from foveate.hooks.report import DecoderReport
from foveate.hooks.slots import PrunedLayers
from foveate.method.budget import to_budget
from foveate.method.in_decoder import DecoderMethod
from foveate.models import Family, family_of
from foveate.models.cache import cache_of
from foveate.models.visual_input import Grid
from foveate.pipeline.inputs import check_containers, explain_refusal
from foveate.pipeline.past import check_empty

MARK = "foveate_decoder"  # attribute of our hook before `forward`


class DecoderHandle(ShownHandle[DecoderReport]):
    """In-decoder pruning that is switched on for one model. `report` is that of the last prompt; `remove()` ends it."""

    def __init__(self, model: Any, keep: int | float, method: DecoderMethod) -> None:
        self.keep, self.method = keep, method
        self._hooks = _Hooks(model, self)

    def remove(self) -> None:
        """Take every hook off; the model is as it was before. Safe to call twice."""
        self._hooks.remove()


def attach_decoder(model: Any, *, keep: int | float, method: DecoderMethod) -> DecoderHandle:
    """Drop visual tokens inside the decoder in every `generate` and forward call, until `handle.remove()`.

    Raises a `FoveateError`, and attaches nothing, if the model or the settings cannot be used.
    """
    family = family_of(model)
    if not family.traits.in_decoder:
        raise ModelError(
            f"{method.name} prunes inside the decoder, which was not checked on {family.model_type!r} models: "
            "use a method that prunes the input, such as foveate."
        )
    check_stack(model.config)
    depth = len(family.decoder(model).layers)
    layers = method.layers(depth)
    if not layers or list(layers) != sorted(set(layers)) or layers[0] < 1 or layers[-1] >= depth:
        raise InputError(
            f"{method.name} would drop after layers {layers}, but this model has {depth}: "
            f"choose ascending layers from 1 to {depth - 1}."
        )
    return DecoderHandle(model, keep, method)


def is_attached(model: Any) -> bool:
    """Whether an in-decoder method is attached to this model."""
    return find_marked(model, MARK) is not None


class _LayerCall(threading.local):
    """What this thread is doing in the model."""

    def __init__(self) -> None:
        self.now: DecodeCall | None = None
        self.cache: Any = None  # that `now` goes on from


class _Hooks:
    def __init__(self, model: Any, handle: DecoderHandle) -> None:
        self.model, self.handle, self.family = model, handle, family_of(model)
        self.decoder = self.family.decoder(model)
        self.drops = handle.method.layers(len(self.decoder.layers))
        self.call = _LayerCall()
        # What the hooks do is no part of a compiled graph.
        before_call = torch.compiler.disable(self.open)
        setattr(before_call, MARK, self)
        self.installed = {
            model: [
                model.register_forward_pre_hook(before_call, with_kwargs=True),
                # Also after an exception: a call that failed must not act on the next one.
                model.register_forward_hook(torch.compiler.disable(self.close), always_call=True),
            ]
        }
        for number, layer in list(enumerate(self.decoder.layers))[self.drops[0] - 1 :]:
            before = torch.compiler.disable(partial(self.before, number))
            after = torch.compiler.disable(partial(self.after, number))
            self.installed[layer] = [
                layer.register_forward_pre_hook(before, with_kwargs=True), layer.register_forward_hook(after)
            ]  # fmt: skip
        guard = guard_base(model, self.family, lambda: self.call.now is not None)
        if guard:
            self.installed[model.base_model] = guard
        for module, hooks in self.installed.items():
            hide_from_copies(module, hooks, {})

    def remove(self) -> None:
        for module, hooks in self.installed.items():
            show_to_copies(module)
            for hook in hooks:
                hook.remove()
        self.installed.clear()

    # -- the layers' hooks ------------------------------------------------------------------------------------------

    def before(self, number: int, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.call.now is None:
            return None
        hidden, kwargs = self.call.now.before(number, layer, args[0], kwargs)
        return (hidden, *args[1:]), kwargs

    def after(self, number: int, layer: Any, args: Any, output: Tensor) -> Tensor:
        del layer, args
        return output if self.call.now is None else self.call.now.after(number, output)

    # -- the model's hooks ------------------------------------------------------------------------------------------

    def open(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = read_arguments(self.model, args, kwargs)
        check_containers(inputs)
        self.call.now = None
        cache = cache_of(inputs)
        is_prompt = has_raw(self.family, inputs) or bool(list_encoded(inputs))
        if cache is not None and cache.get_seq_length() == 0:
            forget_prompt(cache)  # it was reset
        elif cache is not None:
            if is_prompt:
                check_empty(inputs)
            self.call.now = self._following(cache, inputs)
            if self.call.now is not None:
                open_cache(cache, True)
                self.call.cache = cache
            return None
        if not is_prompt:
            return None
        check_call(self.model, self.family, inputs, self.handle.method.name)
        with explain_refusal(model):
            encoded = self.family.encode(model, inputs)
            self.call.now = self._prefill(inputs, encoded)
        rest = {name: value for name, value in inputs.items() if name != "pixel_values"}
        return (), {**rest, "mm_encoder_outputs": {"image": encoded}}

    def _following(self, cache: Any, inputs: dict[str, Any]) -> DecodeCall | None:
        ids, mask, record = inputs.get("input_ids"), inputs.get("attention_mask"), read_prompt(cache)
        if not isinstance(record, PrunedLayers) or record.owner() is not self:
            lengths = {cache.get_seq_length(number) for number in range(len(self.decoder.layers))}
            if record is not None or len(lengths) > 1:
                raise InputError(
                    "This cache was pruned, but not by this handle: give the whole prompt again, without it."
                )
            return None
        if ids is None:
            raise InputError("The cache holds a pruned prompt: go on with input_ids.")
        return DecodeCall(self.decoder.config, fit_rows(record, len(ids)).slots, mask)

    def _prefill(self, inputs: dict[str, Any], encoded: Any) -> PrefillCall:
        handle, family, ids, mask = self.handle, self.family, inputs["input_ids"], inputs.get("attention_mask")
        features = family.features(encoded)
        mask = torch.ones_like(ids) if mask is None else mask.to(ids.device)
        grids = _read_grids(family, self.model.config, inputs, features)
        prompt = Prompt(ids, mask, family.placeholders(self.model.config, inputs), features, grids)
        if bool((prompt.visual & (mask == 0)).any()):
            raise InputError("attention_mask hides image placeholders: leave them visible, keep decides what stays.")
        answer = count_answer_tokens(inputs.get("logits_to_keep", 0))
        images, notes = rate_images(self.model, family, handle.method, prompt, answer)
        sizes = [len(feature) for feature in features]
        left = [handle.method.counts(n, to_budget(handle.keep, n), len(self.drops)) for n in sizes]
        counts = dict(zip(self.drops, zip(*left, strict=True), strict=True))
        whole = family.whole_layers(self.model.config)
        return PrefillCall(self.decoder.config, handle.method, mask, images, counts, whole, answer, notes)

    def close(self, model: Any, args: Any, output: Any) -> None:
        del model, args
        call, self.call.now = self.call.now, None
        if self.call.cache is not None:
            open_cache(self.call.cache, False)
            self.call.cache = None
        if output is None or not isinstance(call, PrefillCall):
            return
        if not call.stages:
            raise ModelError(
                "The decoder's layers ran as torch.compile had compiled them before, without the hooks that prune "
                "between them: call torch.compiler.reset() after attach."
            )
        if call.cache is not None:
            slots = tuple(slots.drop_answer(call.answer) for slots in call.slots)
            record_prompt(call.cache, PrunedLayers(slots, weakref.ref(self)))
        last = call.stages[-1].kept
        items = tuple(replace(image.item, kept=kept) for image, kept in zip(call.images, last, strict=True))
        per_layer = [sum(item.total for item in items)] * self.drops[0]
        for stage, end in zip(call.stages, (*self.drops[1:], len(self.decoder.layers)), strict=True):
            per_layer += [sum(map(len, stage.kept))] * (end - stage.layer)
        self.handle.last_report = DecoderReport(
            items, self.handle.method.name, call.seconds, tuple(call.notes), stages=tuple(call.stages),
            visual_tokens=tuple(per_layer),
        )  # fmt: skip


def _read_grids(
    family: Family, config: Any, inputs: dict[str, Any], features: Sequence[Tensor]
) -> tuple[Grid | None, ...]:
    """The images' grids, None where the call lacks them: `generate` and `prune_inputs` may leave them out."""
    try:
        grids = family.grids(config, inputs, features)
    except KeyError:
        grids = []
    if len(grids) != len(features):
        return (None,) * len(features)
    pairs = zip(grids, features, strict=True)
    return tuple(grid if grid is not None and math.prod(grid) == len(f) else None for grid, f in pairs)
