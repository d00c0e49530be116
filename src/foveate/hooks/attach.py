"""`attach` and `pruning`: switch pruning on for a live model, in its `generate` and its `forward`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError, ModelError
from foveate.hooks.decoder import DecoderHandle, attach_decoder, is_attached
from foveate.hooks.generate import check_unassisted, make_mask, restore_prompt, shorten_limits
from foveate.method import Method, resolve_any
from foveate.method.budget import check_keep
from foveate.method.in_decoder import DecoderMethod
from foveate.models import family_of
from foveate.models.cache import NAMES
from foveate.models.generation import has_own_decoder
from foveate.pipeline.encode import check_needs
from foveate.pipeline.prune import prune
from foveate.pipeline.report import PrunedInputs, Report
from foveate.pipeline.settings import Per, Positions, PruneSettings, check_modalities, check_settings

CHAIN = "foveate_chain"  # attribute of our `generate` that holds the model's handles


class Handle:
    """Pruning that is switched on for one model.

    `report` is that of the last call; `remove()` switches pruning off. Several handles may be attached: the newest one
    decides, and they may be removed in any order.
    """

    def __init__(self, chain: _Chain, settings: PruneSettings) -> None:
        self.settings = settings
        self.report: Report | None = None
        self._chain = chain

    def prune(self, inputs: Mapping[str, Any]) -> PrunedInputs:
        """The shorter inputs, with this handle's settings."""
        short = prune(self._chain.model, inputs, self.settings)
        self.report = short.report
        return short

    def remove(self) -> None:
        """Switch this pruning off; with the last handle the model is as it was before. Safe to call twice."""
        if self in self._chain.handles:
            self._chain.handles.remove(self)
            if not self._chain.handles:
                self._chain.uninstall()


def attach(
    model: Any, *, keep: int | float, method: str | Method | DecoderMethod = "foveate",
    positions: Positions = "original", per: Per = "image", modalities: Sequence[str] = ("image", "video"),
    explain: bool = False,
) -> Handle | DecoderHandle:  # fmt: skip
    """Prune the images of every `model.generate(...)` and `model(...)` call, until `handle.remove()`.

    Inputs that are encoded already (`mm_encoder_outputs`) pass through. `generate` still returns the caller's prompt in
    front of the new tokens; `model(...)` returns logits of the shorter sequence. An in-decoder method (`FastV`) prunes
    between the layers: its `keep` is what the last drop leaves of each image, it allows one handle at a time, and
    `model(...)` returns logits of the caller's sequence, without a meaning at dropped tokens.

    Args:
        model: A vision-language model of transformers, with its head.
        keep, method, positions, per, modalities, explain: As in `prune_inputs`.

    Returns:
        A handle with `report` and `remove()`.

    Raises:
        FoveateError: The model or the settings cannot be used. Nothing is attached then.

    Example:
        handle = foveate.attach(model, keep=64)
        model.generate(**inputs)
        handle.remove()
    """
    resolved = resolve_any(method)
    if is_attached(model):
        raise InputError("An in-decoder method is attached to this model: remove its handle first.")
    if isinstance(resolved, DecoderMethod):
        _check_decoder_settings(model, resolved, keep, positions, per, modalities, explain)
        return attach_decoder(model, keep=keep, method=resolved)
    settings = check_settings(keep, resolved, positions, per, modalities, explain)
    check_needs(model, family_of(model), settings.method)
    if not hasattr(model, "generate"):
        raise ModelError(f"{type(model).__name__} has no generate: attach to the whole model, with its head.")
    front = model.__dict__.get("generate")
    chain = getattr(front, CHAIN, None)
    if chain is None or chain.front is not front:  # functools.wraps copies our attribute to a wrapper
        chain = _Chain(model)
    handle = Handle(chain, settings)
    chain.handles.append(handle)
    return handle


def _check_decoder_settings(
    model: Any, method: DecoderMethod, keep: int | float, positions: str, per: str, modalities: Sequence[str],
    explain: bool,
) -> None:  # fmt: skip
    """Raise a `FoveateError` for settings that a method inside the decoder cannot follow."""
    check_keep(keep)
    check_modalities(modalities)
    reasons = {
        f"per={per!r}": per != "image" and "which counts by image",
        f"modalities={modalities!r}": "image" not in modalities and "which prunes images",
        "explain=True": explain and "which selects by attention alone",
        f"positions={positions!r}": positions != "original" and "whose tokens stay in place",
    }
    for setting, reason in reasons.items():
        if reason:
            raise InputError(f"{setting} is not for {method.name}, {reason}: leave it out.")
    handles = getattr(getattr(model, "__dict__", {}).get("generate"), CHAIN, None)
    if handles is not None and handles.handles:
        raise InputError(f"Another method is attached to this model: remove its handle before {method.name}.")


@contextmanager
def pruning(
    model: Any, *, keep: int | float, method: str | Method | DecoderMethod = "foveate",
    positions: Positions = "original", per: Per = "image", modalities: Sequence[str] = ("image", "video"),
    explain: bool = False,
) -> Iterator[Handle | DecoderHandle]:  # fmt: skip
    """`attach` for the length of a with-block, with the same arguments.

    Example:
        with foveate.pruning(model, keep=0.1) as handle:
            model.generate(**inputs)
    """
    handle = attach(
        model, keep=keep, method=method, positions=positions, per=per, modalities=modalities, explain=explain
    )
    try:
        yield handle
    finally:
        handle.remove()


class _Chain:
    """What `attach` puts on a model: a `generate` before the stock one, and a hook before `forward`."""

    def __init__(self, model: Any) -> None:
        self.model, self.family = model, family_of(model)
        self.handles: list[Handle] = []
        self.generating = False
        self.own_generate = model.__dict__.get("generate")  # set on the object by other code
        stock = model.generate
        parameters = list(inspect.signature(stock).parameters)

        @functools.wraps(stock)
        def generate(*args: Any, **kwargs: Any) -> Any:
            return self.generate(stock, {**dict(zip(parameters, args, strict=False)), **kwargs})

        setattr(generate, CHAIN, self)
        model.generate = self.front = generate
        self.hook = model.register_forward_pre_hook(self.before_forward, with_kwargs=True)

    def uninstall(self) -> None:
        self.hook.remove()
        if self.model.__dict__.get("generate") is not self.front:
            return  # other code wrapped ours: it stays there without a handle and calls the stock one
        if self.own_generate is None:
            del self.model.generate
        else:
            self.model.generate = self.own_generate

    @torch.no_grad()
    def generate(self, stock: Any, kwargs: dict[str, Any]) -> Any:
        # Assistants and decoding loops call generate again; encoded inputs were pruned by the caller.
        if self.generating or not self.handles or kwargs.get("mm_encoder_outputs"):
            return stock(**kwargs)
        if kwargs.get("inputs") is not None:
            kwargs["input_ids"] = kwargs.pop("inputs")
        # The cache has an older name too, which is not in the signature.
        names = {*inspect.signature(self.model.forward).parameters, "input_ids", "inputs_embeds", *NAMES}
        inputs = {name: value for name, value in kwargs.items() if name in names}
        settings = {name: value for name, value in kwargs.items() if name not in inputs}
        prompt = dict(inputs)
        if prompt.get("attention_mask") is None and isinstance(prompt.get("input_ids"), Tensor):
            prompt["attention_mask"] = make_mask(self.model, settings, prompt["input_ids"])
        short = self.handles[-1].prune(prompt)
        self.generating = True
        try:
            if not short.report.items:
                return stock(**inputs, **settings)
            ids, separate = inputs["input_ids"], has_own_decoder(self.model)
            if not separate and "input_ids" not in short:
                check_unassisted(self.model, settings)
            length = short["attention_mask"].shape[1]
            out = stock(**short, **shorten_limits(self.model, settings, 0 if separate else ids.shape[1] - length))
        finally:
            self.generating = False
        if separate:
            return out
        # From embeddings, generate returns the new tokens alone.
        return restore_prompt(out, ids, length if "input_ids" in short else 0)

    def before_forward(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = {**dict(zip(inspect.signature(model.forward).parameters, args, strict=False)), **kwargs}
        raw = self.family.traits.main_inputs.values()
        if self.generating or not any(inputs.get(name) is not None for name in raw):
            return None
        return (), dict(self.handles[-1].prune(inputs))
