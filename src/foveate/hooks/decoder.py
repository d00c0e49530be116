"""`attach` for methods that drop tokens between the layers: hooks, and a record of the caches that the model filled.

Hooks on each decoder layer, from the first drop on, cut the sequence down. Tokens are selected once, in the call that
brings the images, by the last token of its prompt. Without a cache every step of `generate` selects again, by the
newest token; with `prefill_chunk_size` the last token of the chunk with the images decides. Hidden states and
attentions, where requested, are of the tokens that a layer held.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from foveate.errors import InputError, ModelError
from foveate.hooks.call import DecodeCall, PrefillCall
from foveate.hooks.entry import has_raw, list_encoded, read_arguments
from foveate.hooks.layers import COMPILED, DecoderHandle, LayerHooks, check_model
from foveate.hooks.prompt import check_call, count_answer_tokens, make_prompt, rate_images
from foveate.hooks.record import fit_rows, forget_prompt, open_cache, read_prompt, record_prompt
from foveate.hooks.report import DecoderReport
from foveate.hooks.slots import PrunedLayers
from foveate.method.budget import to_budget
from foveate.method.in_decoder import DecoderMethod
from foveate.models import family_of
from foveate.models.cache import cache_of
from foveate.pipeline.inputs import check_containers, explain_refusal
from foveate.pipeline.past import check_empty


def attach_decoder(model: Any, *, keep: int | float, method: DecoderMethod) -> DecoderHandle:
    """Drop visual tokens inside the decoder in every `generate` and forward call, until `handle.remove()`.

    Raises a `FoveateError`, and attaches nothing, if the model or the settings cannot be used.
    """
    family = check_model(model, method.name)
    depth = len(family.decoder(model).layers)
    layers = method.layers(depth)
    if not layers or list(layers) != sorted(set(layers)) or layers[0] < 1 or layers[-1] >= depth:
        raise InputError(
            f"{method.name} would drop after layers {layers}, but this model has {depth}: "
            f"choose ascending layers from 1 to {depth - 1}."
        )
    return DecoderHandle(model, keep, method, partial(_Hooks, method))


class _LayerCall(threading.local):
    """What this thread is doing in the model."""

    def __init__(self) -> None:
        self.now: DecodeCall | None = None
        self.cache: Any = None  # that `now` goes on from


class _Hooks(LayerHooks):
    def __init__(self, method: DecoderMethod, model: Any, handle: DecoderHandle) -> None:
        self.method, self.call = method, _LayerCall()
        self.drops = method.layers(len(family_of(model).decoder(model).layers))
        super().__init__(model, handle, self.drops[0] - 1)

    def is_inside(self) -> bool:
        return self.call.now is not None

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
        check_call(self.model, self.family, inputs, self.method.name)
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
        family, config, method = self.family, self.model.config, self.method
        prompt = make_prompt(family, config, inputs, encoded)
        answer = count_answer_tokens(inputs.get("logits_to_keep", 0))
        images, notes = rate_images(self.model, family, method, prompt, answer)
        sizes = [len(feature) for feature in prompt.features]
        left = [method.counts(n, to_budget(self.handle.keep, n), len(self.drops)) for n in sizes]
        counts = dict(zip(self.drops, zip(*left, strict=True), strict=True))
        whole = family.whole_layers(config)
        return PrefillCall(self.decoder.config, method, prompt.mask, images, counts, whole, answer, notes)

    def close(self, model: Any, args: Any, output: Any) -> None:
        del model, args
        call, self.call.now = self.call.now, None
        if self.call.cache is not None:
            open_cache(self.call.cache, False)
            self.call.cache = None
        if output is None or not isinstance(call, PrefillCall):
            return
        if not call.stages:
            raise ModelError(COMPILED)
        if call.cache is not None:
            slots = tuple(slots.drop_answer(call.answer) for slots in call.slots)
            record_prompt(call.cache, PrunedLayers(slots, weakref.ref(self)))
        last = call.stages[-1].kept
        items = tuple(replace(image.item, kept=kept) for image, kept in zip(call.images, last, strict=True))
        per_layer = [sum(item.total for item in items)] * self.drops[0]
        for stage, end in zip(call.stages, (*self.drops[1:], len(self.decoder.layers)), strict=True):
            per_layer += [sum(map(len, stage.kept))] * (end - stage.layer)
        self.handle.last_report = DecoderReport(
            items, self.method.name, call.seconds, tuple(call.notes), stages=tuple(call.stages),
            visual_tokens=tuple(per_layer),
        )  # fmt: skip
