"""What `attach` puts on a model: a `generate` before the stock one, and hooks around `forward`.

Nothing about a call is kept on the model: threads may share it. Copies of the model carry neither.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from foveate.hooks.callbacks import PromptRestorer
from foveate.hooks.continuation import continue_call, continue_generate, fit_encoder_mask, make_record
from foveate.hooks.copies import hide_from_copies, show_to_copies
from foveate.hooks.drawn import draw_settings
from foveate.hooks.entry import find_marked, guard_base, has_images, has_raw, read_arguments, split_arguments
from foveate.hooks.generate import check_loop, check_unassisted, make_mask, shorten_limits
from foveate.hooks.handles import OWN, PruningHandle, find_newest
from foveate.hooks.options import check_kinds, check_options
from foveate.hooks.record import RECORD, Record, find_cache, forget_prompt, open_cache, read_prompt, record_prompt
from foveate.hooks.trainers import FUSED, check_count, restore_scores
from foveate.models import family_of
from foveate.models.cache import cache_of
from foveate.models.generation import has_own_decoder, read_pad_id
from foveate.models.sequence import Layout
from foveate.pipeline.inputs import check_containers
from foveate.pipeline.past import check_empty
from foveate.pipeline.prune import prune
from foveate.pipeline.question import warn_once
from foveate.pipeline.report import PrunedInputs

HIDDEN = "inputs_embeds hide which tokens are an image's, so nothing was pruned: pass input_ids and pixel_values."
CHAIN = "foveate_chain"  # attribute of our hook before `forward` that holds the chain


class _Call(threading.local):
    """What this thread is doing in the model."""

    def __init__(self) -> None:
        self.is_generating = False  # in the stock `generate`, whose inputs were pruned
        self.is_entered = False  # `forward` was called, and the base model not yet
        self.prompt: Record | None = None  # to be recorded on the cache that the call returns
        self.layout: Layout | None = None  # which columns stayed


class Chain:
    """The handles of one model. The newest one of the calling context prunes, or if it has none, the newest of all."""

    def __init__(self, model: Any) -> None:
        self.model, self.family = model, family_of(model)
        self.is_separate = has_own_decoder(model)
        self.handles: list[PruningHandle] = []
        self.call = _Call()
        self.own_generate = model.__dict__.get("generate")  # set on the object by other code
        stock = model.generate
        parameters = list(inspect.signature(stock).parameters)

        @functools.wraps(stock)
        def generate(*args: Any, **kwargs: Any) -> Any:
            return self.generate(stock, {**dict(zip(parameters, args, strict=False)), **kwargs})

        model.generate = self.front = generate
        before = torch.compiler.disable(self.before_forward)
        setattr(before, CHAIN, self)
        after = torch.compiler.disable(self.after_forward)
        self.hooks = [
            model.register_forward_pre_hook(before, with_kwargs=True),
            model.register_forward_hook(after, with_kwargs=True, always_call=True),
        ]
        hide_from_copies(model, self.hooks, {"generate": self.own_generate})
        guard = guard_base(model, self.family, self.leave_entry)
        if guard:
            self.hooks += guard
            hide_from_copies(model.base_model, guard, {})

    def uninstall(self) -> None:
        """Leave the model as it was before."""
        for hook in self.hooks:
            hook.remove()
        show_to_copies(self.model)
        show_to_copies(self.model.base_model)
        if self.model.__dict__.get("generate") is not self.front:
            return  # other code wrapped ours: it stays there without a handle and calls the stock one
        if self.own_generate is None:
            del self.model.generate
        else:
            self.model.generate = self.own_generate

    # -- generate ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(self, stock: Any, kwargs: dict[str, Any]) -> Any:
        """Prune the prompt, or go on from a pruned one, and call the stock `generate`."""
        if self.handles:
            check_containers(kwargs)
        # Assistants and decoding loops call generate again, without an image.
        is_pruned = bool(kwargs.get("mm_encoder_outputs")) or self.call.is_generating
        if not self.handles or (is_pruned and not self.brings_images(kwargs)):
            return stock(**kwargs)
        inputs, settings = split_arguments(self.model, self.family, kwargs)
        check_kinds(settings)
        cache = cache_of(inputs)
        prompt = read_prompt(cache)
        if cache is not None and cache.get_seq_length() > 0 and not has_images(self.family, inputs):
            if prompt is None or self.is_separate:  # nothing was pruned, or not in this sequence
                return self.run(stock, {**inputs, **settings})
            settings = check_options(self.model, self.family, settings)
            short = continue_generate(cache, prompt, inputs, functools.partial(make_mask, self.model, settings))
            forget_prompt(cache)
        else:
            if prompt is not None and not self.is_separate:
                check_empty(inputs)  # it holds a pruned prompt
            masked = dict(inputs)
            if masked.get("attention_mask") is None and isinstance(masked.get("input_ids"), Tensor):
                masked["attention_mask"] = make_mask(self.model, settings, masked["input_ids"])
            pruned, prompt = self.prune(self.model, masked, writes=True)
            if not pruned.report.items:
                return self.run(stock, {**inputs, **settings})
            settings = check_options(self.model, self.family, settings)
            if self.is_separate:  # the answer alone, without a prompt
                return self.run(stock, {**pruned, **settings})
            if "input_ids" not in pruned:
                check_unassisted(self.model, settings)
            short = dict(pruned)
            if pruned.layout is not None and "input_ids" not in short:  # embeddings: the ids are for processors alone
                short["input_ids"] = pruned.layout.cut(inputs["input_ids"], read_pad_id(self.model))
        check_loop(settings)
        restorer = PromptRestorer(inputs["input_ids"], short["input_ids"].shape[1])
        limits = shorten_limits(self.model, settings, inputs["input_ids"].shape[1], restorer.count_dropped())
        options = restorer.wrap_callbacks(limits)
        out = self.run(stock, {**short, **options})
        filled = find_cache(out)
        filled = cache if filled is None else filled
        if filled is not None and prompt is not None:
            record_prompt(filled, prompt)
        return restorer.restore_output(out)

    def brings_images(self, inputs: Mapping[str, Any]) -> bool:
        """Whether a call has images to prune. `generate` takes pruned ones apart for chunks of a prompt."""
        return has_raw(self.family, inputs) if self.call.is_generating else has_images(self.family, inputs)

    def prune(
        self, model: Any, inputs: Mapping[str, Any], *, writes: bool = False
    ) -> tuple[PrunedInputs, Record | None]:
        """The shorter inputs for this model, or a replica of it, and what a cache filled with them holds."""
        handle = find_newest(self.handles)
        settings = draw_settings(model, handle.settings, handle.draws, writes=writes)
        check_count(model, self.family, inputs, settings)
        outer, self.call.is_generating = self.call.is_generating, True  # a first look calls the base model
        try:
            pruned = prune(model, inputs, settings)
        finally:
            self.call.is_generating = outer
        handle.last_report = pruned.report
        is_compact = settings.positions == "compact"
        return pruned, make_record(self.model, self.family, inputs, pruned, is_compact=is_compact)

    def add(self, handle: PruningHandle) -> None:
        """Let a handle prune."""
        self.handles.append(handle)
        OWN.set((*OWN.get(), handle))

    def remove(self, handle: PruningHandle) -> None:
        """Let a handle prune no more; the last one leaves the model as it was before."""
        OWN.set(tuple(own for own in OWN.get() if own is not handle))
        if handle in self.handles:
            self.handles.remove(handle)
            if not self.handles:
                self.uninstall()

    def run(self, stock: Any, kwargs: dict[str, Any]) -> Any:
        """The stock `generate`, in which nothing else is pruned."""
        outer, self.call.is_generating = self.call.is_generating, True
        try:
            return stock(**kwargs)
        finally:
            self.call.is_generating = outer

    # -- forward ----------------------------------------------------------------------------------------------------

    def before_forward(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Prune a prompt with images, or go on from a pruned one."""
        # Set anew in every call: an interrupted one leaves its own state behind.
        self.call.is_entered, self.call.prompt, self.call.layout = True, None, None
        inputs = read_arguments(self.model, args, kwargs)
        check_containers(inputs)
        cache = cache_of(inputs)
        prompt = read_prompt(cache)
        if self.brings_images(inputs):
            if not self.is_separate:
                check_empty(inputs)  # input_ids are what follows the cache: nothing tells what that holds
            pruned, self.call.prompt = self.prune(model, inputs)
            self.call.is_entered, self.call.layout = True, pruned.layout
            # The value that survives `generate` is for the callers of `prune_inputs`.
            return (), {**pruned, "attention_mask": _to_ones(pruned.get("attention_mask"))}
        if inputs.get("encoder_outputs") is not None:
            return (), fit_encoder_mask(prompt, inputs)
        if prompt is None:
            if inputs.get("inputs_embeds") is not None and cache is None and "mm_encoder_outputs" not in inputs:
                warn_once(self.model, [HIDDEN])
            return None
        inputs = continue_call(cache, prompt, inputs)
        open_cache(cache, True)
        return (), inputs

    def after_forward(self, model: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """Record the pruned prompt on the cache that holds it; give TRL its scores in the caller's columns."""
        del model, args
        self.call.is_entered = False
        prompt, self.call.prompt = self.call.prompt, None
        layout, self.call.layout = self.call.layout, None
        cache = cache_of(kwargs)
        cache = find_cache(output) if cache is None else cache
        states = getattr(output, "encoder_last_hidden_state", None)
        if states is not None and prompt is not None:
            setattr(states, RECORD, prompt)
        if output is not None and cache is not None and prompt is not None:
            record_prompt(cache, prompt)
        elif read_prompt(cache) is not None:
            open_cache(cache, False)
        return None if layout is None or not kwargs.get(FUSED) else restore_scores(output, layout)

    def leave_entry(self) -> bool:
        """Whether the base model is called by `forward`, which does so once."""
        is_entered, self.call.is_entered = self.call.is_entered, False
        return is_entered or self.call.is_generating


def find_chain(model: Any) -> Chain | None:
    """The chain of handles that is attached to a model."""
    chain: Chain | None = find_marked(model, CHAIN)
    return chain


def _to_ones(mask: Any) -> Any:
    return mask.clamp(max=1) if isinstance(mask, Tensor) and not mask.is_floating_point() else mask
