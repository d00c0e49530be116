"""`attach` and `pruning`: a live model whose `generate` and `forward` prune the pictures they are given."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError, ModelError
from foveate.hooks.decoder import DecoderHandle, attach_decoder, is_attached
from foveate.method import Method, resolve_any
from foveate.method.budget import check_keep
from foveate.method.in_decoder import DecoderMethod
from foveate.models import family_of
from foveate.models.cache import NAMES
from foveate.models.generation import has_own_decoder, read_stop_ids
from foveate.pipeline.encode import check_needs
from foveate.pipeline.prune import prune
from foveate.pipeline.report import PrunedInputs, Report
from foveate.pipeline.settings import Per, Positions, PruneSettings, check_modalities, check_settings

CHAIN = "foveate_chain"  # the attribute of our `generate` that leads to the handles on the model


class Handle:
    """Pruning that is switched on for one model. `report` tells of the last call; `remove()` switches it off.

    Handles nest: the newest one still attached decides, and they may be removed in any order.
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
    """Prune every picture that `model.generate(...)` and `model(...)` are given, until `handle.remove()`.

    The settings are `prune_inputs`'. Pictures that come encoded already (`mm_encoder_outputs`, as `prune_inputs` makes
    them) are handed on as they are. `generate` still returns the caller's own prompt in front of the new tokens;
    `model(...)` returns logits of the shorter sequence.

    An in-decoder method (`FastV` and kin) prunes between the layers instead: see `foveate.hooks.decoder`. `keep` is
    then what its last drop leaves of each picture, positions are the original ones, and `model(...)` returns logits of
    the caller's sequence, which mean nothing at the places of dropped tokens. One such handle at a time, and none
    beside it.

    Raises a `FoveateError`, and attaches nothing, if the model or the settings cannot be used.
    """
    found = resolve_any(method)
    if is_attached(model):
        raise InputError("An in-decoder method is attached to this model: remove its handle first.")
    if isinstance(found, DecoderMethod):
        if per != "image":
            raise InputError(f"per={per!r} is not for {found.name}, which counts by picture: leave it out.")
        check_modalities(modalities)
        if "image" not in modalities:
            raise InputError(f"modalities={modalities!r} is not for {found.name}, which prunes pictures: leave it out.")
        if explain:
            raise InputError(f"explain=True is not for {found.name}, which chooses by attention alone: leave it out.")
        return _attach_decoder(model, keep, found, positions)
    settings = check_settings(keep, found, positions, per, modalities, explain)
    check_needs(model, family_of(model), settings.method)
    if not hasattr(model, "generate"):
        raise ModelError(f"{type(model).__name__} has no generate: attach to the whole model, with its head.")
    front = model.__dict__.get("generate")
    chain = getattr(front, CHAIN, None)
    if chain is None or chain.front is not front:  # somebody's wrapper may carry the attribute of ours
        chain = _Chain(model)
    handle = Handle(chain, settings)
    chain.handles.append(handle)
    return handle


def _attach_decoder(model: Any, keep: int | float, method: DecoderMethod, positions: str) -> DecoderHandle:
    check_keep(keep)
    if positions != "original":
        raise InputError(f"positions={positions!r} is not for {method.name}, whose tokens stay in place: leave it out.")
    handles = getattr(getattr(model, "__dict__", {}).get("generate"), CHAIN, None)
    if handles is not None and handles.handles:
        raise InputError(f"Another method is attached to this model: remove its handle before {method.name}.")
    return attach_decoder(model, keep=keep, method=method)


@contextmanager
def pruning(
    model: Any, *, keep: int | float, method: str | Method | DecoderMethod = "foveate",
    positions: Positions = "original", per: Per = "image", modalities: Sequence[str] = ("image", "video"),
    explain: bool = False,
) -> Iterator[Handle | DecoderHandle]:  # fmt: skip
    """`attach` for the length of a with-block."""
    handle = attach(
        model, keep=keep, method=method, positions=positions, per=per, modalities=modalities, explain=explain
    )
    try:
        yield handle
    finally:
        handle.remove()


class _Chain:
    """What `attach` puts on a model: a `generate` in front of the stock one, and a hook in front of `forward`."""

    def __init__(self, model: Any) -> None:
        self.model, self.family = model, family_of(model)
        self.handles: list[Handle] = []
        self.generating = False
        self.own_generate = model.__dict__.get("generate")  # somebody else's, set on the object
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
            return  # somebody wrapped ours: it stays behind theirs, without a handle, and calls the stock one
        if self.own_generate is None:
            del self.model.generate
        else:
            self.model.generate = self.own_generate

    @torch.no_grad()
    def generate(self, stock: Any, kwargs: dict[str, Any]) -> Any:
        # Assistants and decoding loops call generate again; pictures that come encoded are the caller's business.
        if self.generating or not self.handles or kwargs.get("mm_encoder_outputs"):
            return stock(**kwargs)
        if kwargs.get("inputs") is not None:
            kwargs["input_ids"] = kwargs.pop("inputs")
        # The cache goes by its older name too, which the signature does not tell.
        names = {*inspect.signature(self.model.forward).parameters, "input_ids", "inputs_embeds", *NAMES}
        inputs = {name: value for name, value in kwargs.items() if name in names}
        settings = {name: value for name, value in kwargs.items() if name not in inputs}
        given = dict(inputs)
        if given.get("attention_mask") is None and isinstance(given.get("input_ids"), Tensor):
            given["attention_mask"] = _made_mask(self.model, settings, given["input_ids"])
        short = self.handles[-1].prune(given)
        self.generating = True
        try:
            if not short.report.items:
                return stock(**inputs, **settings)
            ids, apart = inputs["input_ids"], has_own_decoder(self.model)
            if not apart and "input_ids" not in short:
                _check_unassisted(self.model, settings)
            length = short["attention_mask"].shape[1]
            out = stock(**short, **_shorter_limits(self.model, settings, 0 if apart else ids.shape[1] - length))
        finally:
            self.generating = False
        if apart:
            return out
        # From embeddings, generate returns the new tokens alone.
        return _with_prompt(out, ids, length if "input_ids" in short else 0)

    def before_forward(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = {**dict(zip(inspect.signature(model.forward).parameters, args, strict=False)), **kwargs}
        raw = self.family.traits.main_inputs.values()
        if self.generating or not any(inputs.get(name) is not None for name in raw):
            return None
        return (), dict(self.handles[-1].prune(inputs))


def _made_mask(model: Any, settings: Mapping[str, Any], ids: Tensor) -> Tensor:
    """The mask that `generate` makes where there is none: padding is hidden, unless its id ends generation too."""
    pad = _setting(model, settings, "pad_token_id")
    stops = _setting(model, settings, "eos_token_id")
    if pad is None or pad in (
        read_stop_ids(model.config, model.generation_config)
        if stops is None
        else stops
        if isinstance(stops, list)
        else [stops]
    ):
        return torch.ones_like(ids)
    return ids.ne(pad).long()


def _check_unassisted(model: Any, settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for assisted decoding from embeddings: transformers cuts the mask down to no prompt at all."""
    names = ("assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit")
    found = next((name for name in names if _setting(model, settings, name) is not None), None)
    if found is not None:
        raise InputError(
            f"{found} does not work with pruned sounds, which are handed on as embeddings: "
            'leave it out, or "audio" out of modalities.'
        )


def _setting(model: Any, settings: Mapping[str, Any], name: str) -> Any:
    """What a call of `generate` goes by: its argument, else its configuration's, else the model's own."""
    configs = (settings.get("generation_config"), model.generation_config)
    values = (settings.get(name), *(getattr(config, name, None) for config in configs))
    return next((value for value in values if value is not None), None)


def _shorter_limits(model: Any, settings: dict[str, Any], dropped: int) -> dict[str, Any]:
    """`max_length` and `min_length` count the prompt: take off what it lost, so that they mean the same."""
    given = settings.get("generation_config")
    shorter = {}
    for name, instead in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
        length = _setting(model, settings, name)
        if length and _setting(model, settings, instead) is None:
            shorter[name] = max(length - dropped, 0)
    if given is None or not shorter:
        return {**settings, **shorter}
    changed = copy.deepcopy(given)
    changed.update(**shorter)
    return {**{k: v for k, v in settings.items() if k not in shorter}, "generation_config": changed}


def _with_prompt(out: Any, ids: Tensor, short_length: int) -> Any:
    """The caller's prompt in place of the short one; rows are repeated where `generate` returned several each."""
    sequences = out if isinstance(out, Tensor) else out.sequences
    prompt = ids.to(sequences.device).repeat_interleave(len(sequences) // len(ids), dim=0)
    whole = torch.cat([prompt, sequences[:, short_length:]], dim=1)
    if isinstance(out, Tensor):
        return whole
    out.sequences = whole
    return out
