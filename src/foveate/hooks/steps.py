"""`attach` for methods that hide visual tokens from single steps of decoding.

A call with images runs as without the method, and its cache notes where their tokens are. A call of one token behind it
is a step: before the anchor layer runs, its logits are computed from the layer's input and the cached keys, and this
and all later layers get a mask without the tokens that were not selected. The cache stays whole, so that a model
without the method goes on from it too. Calls of several tokens run as without the method.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from foveate.errors import InputError, ModelError
from foveate.hooks.attention import check_kernel
from foveate.hooks.entry import has_raw, list_encoded, read_arguments
from foveate.hooks.layers import COMPILED, DecoderHandle, LayerHooks, check_model
from foveate.hooks.prompt import check_images, list_images, make_prompt
from foveate.hooks.record import find_cache, fit_rows
from foveate.hooks.report import Step, StepReport
from foveate.hooks.step_call import StepCall
from foveate.hooks.visual import VisualColumns, read_visual, record_visual
from foveate.method.budget import to_budget
from foveate.method.in_steps import StepMethod
from foveate.models import family_of
from foveate.models.cache import cache_of
from foveate.models.visual_input import VisualInput
from foveate.pipeline.inputs import check_containers, check_inputs, explain_refusal
from foveate.pipeline.past import check_empty

NO_CACHE = "Without a KV cache there are no steps of decoding: every call reads the whole image."


def attach_steps(model: Any, *, keep: int | float, method: StepMethod) -> DecoderHandle:
    """Hide visual tokens from the steps of every `generate` and forward call, until `handle.remove()`.

    Raises a `FoveateError`, and attaches nothing, if the model or the settings cannot be used.
    """
    decoder = check_model(model, method.name).decoder(model)
    check_kernel(decoder.config, method.name)
    anchor, depth = method.find_anchor(len(decoder.layers)), len(decoder.layers)
    if not 0 <= anchor < depth:
        raise InputError(
            f"{method.name} would select at layer {anchor}, but this model has {depth}: "
            f"choose one from 0 to {depth - 1}."
        )
    return DecoderHandle(model, keep, method, partial(_Hooks, method))


@dataclass(frozen=True)
class _Prompt:
    """A prompt that is being read: its visual tokens, which the cache will hold, and its images."""

    columns: VisualColumns
    items: tuple[VisualInput, ...]


class _ThreadState(threading.local):
    """What this thread is doing in the model."""

    def __init__(self) -> None:
        self.is_inside = False
        self.prompt: _Prompt | None = None
        self.step: StepCall | None = None
        self.name: uuid.UUID | None = None  # of the prompt that the step follows


class _Hooks(LayerHooks):
    def __init__(self, method: StepMethod, model: Any, handle: DecoderHandle) -> None:
        self.method, self.state = method, _ThreadState()
        self.name: uuid.UUID | None = None  # of the last prompt, whose report the handle has
        self.anchor = method.find_anchor(len(family_of(model).decoder(model).layers))
        super().__init__(model, handle, self.anchor)

    def is_inside(self) -> bool:
        return self.state.is_inside

    def before(self, number: int, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        step = self.state.step
        return None if step is None else (args, step.before(number, layer, args[0], kwargs))

    def open(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        state = self.state
        state.is_inside, state.prompt, state.step = False, None, None
        inputs = read_arguments(self.model, args, kwargs)
        check_containers(inputs)
        check_kernel(self.decoder.config, self.method.name)
        cache = cache_of(inputs)
        if has_raw(self.family, inputs) or list_encoded(inputs):
            self._check_prompt(inputs, cache)
            with explain_refusal(model):
                encoded = self.family.encode(model, inputs)
            state.prompt = self._read_prompt(inputs, encoded)
            state.is_inside = True
            rest = {name: value for name, value in inputs.items() if name != "pixel_values"}
            return (), {**rest, "mm_encoder_outputs": {"image": encoded}}
        columns = read_visual(cache)
        new = inputs.get("input_ids") if inputs.get("inputs_embeds") is None else inputs["inputs_embeds"]
        if columns is not None and isinstance(new, Tensor) and new.shape[1] == 1:
            state.name = columns.name
            state.step = StepCall(self.method, self.handle.keep, self.anchor, fit_rows(columns, len(new)).visual, cache)
        return None

    def close(self, model: Any, args: Any, output: Any) -> None:
        del model, args
        state, handle = self.state, self.handle
        prompt, step = state.prompt, state.step
        state.is_inside, state.prompt, state.step = False, None, None
        if output is None:
            return
        if prompt is not None:
            cache = find_cache(output)
            if cache is not None:
                record_visual(cache, prompt.columns)
            self.name = prompt.columns.name
            total = sum(item.total for item in prompt.items)
            handle.last_report = StepReport(
                prompt.items, self.method.name, 0.0,
                () if cache is not None else (NO_CACHE,), visual_tokens=(total,) * len(self.decoder.layers),
                anchor=self.anchor,
            )  # fmt: skip
        elif step is not None:
            if step.stays is None:
                raise ModelError(COMPILED)
            report = handle.last_report
            if isinstance(report, StepReport) and state.name == self.name:
                handle.last_report = report.add_step(Step(step.kept, step.share), step.seconds)

    def _check_prompt(self, inputs: Mapping[str, Any], cache: Any) -> None:
        """Raise `InputError` for a call with images whose steps could not be followed."""
        name = self.method.name
        check_empty(inputs)
        check_images(inputs, name)
        check_inputs(self.model, self.family, inputs)
        if cache is not None and cache.is_compileable:
            raise InputError(f"{name} reads the keys of a cache that grows: use the dynamic cache, not a static one.")
        if inputs.get("labels") is not None:
            raise InputError(f"{name} acts on steps of decoding, and a call with labels has none: leave it off.")

    def _read_prompt(self, inputs: Mapping[str, Any], encoded: Any) -> _Prompt:
        """Where the visual tokens are, and the images."""
        prompt = make_prompt(self.family, self.model.config, inputs, encoded)
        for count in prompt.visual.sum(1).tolist():
            if count:
                to_budget(self.handle.keep, count)  # warns of a number that hides nothing
        items = tuple(item.without_embeds() for item in list_images(prompt))
        return _Prompt(VisualColumns(prompt.visual, uuid.uuid4()), items)
