"""`attach` and `pruning`: switch pruning on for a live model, in its `generate` and its `forward`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from foveate.errors import FoveateWarning, InputError, ModelError, describe
from foveate.hooks.chain import Chain, find_chain
from foveate.hooks.decoder import attach_decoder
from foveate.hooks.drawn import Draws, Keeps, make_draws
from foveate.hooks.handles import ShownHandle, find_newest
from foveate.hooks.layers import DecoderHandle, is_attached
from foveate.hooks.steps import attach_steps
from foveate.hooks.trainers import watch_trainers
from foveate.method import Method, resolve_any
from foveate.method.in_decoder import DecoderMethod
from foveate.method.in_steps import StepMethod
from foveate.method.inner import InnerMethod
from foveate.method.recency import Recency
from foveate.models import Family, family_of
from foveate.models.wrappers import unwrap
from foveate.pipeline.encode import check_needs
from foveate.pipeline.follow import find_policy
from foveate.pipeline.parts import check_encoder
from foveate.pipeline.report import Report
from foveate.pipeline.settings import (
    Encode,
    Per,
    Positions,
    PruneSettings,
    Skip,
    check_choices,
    check_encoder_settings,
    check_settings,
)
from foveate.policy import Policy


class Handle(ShownHandle[Report]):
    """Pruning that is switched on for one model.

    `report` is that of the last call, `last_report` the same or None before the first one; `remove()` switches pruning
    off. Several handles may be attached: the newest one decides, and they may be removed in any order.
    """

    def __init__(self, chain: Chain, settings: PruneSettings, draws: Draws | None = None) -> None:
        self.settings, self.draws = settings, draws
        self._chain = chain

    def remove(self) -> None:
        """Switch this pruning off; with the last handle the model is as it was before. Safe to call twice."""
        self._chain.remove(self)


def attach(
    model: Any, *, keep: Keeps, method: str | Method | InnerMethod = "foveate",
    positions: Positions = "original", per: Per = "image", modalities: Sequence[str] = ("image", "video"),
    explain: bool = False, seed: int = 0, encode: Encode = 1.0, max_encoder_memory: int | None = None,
    skip: Skip = None,
) -> Handle | DecoderHandle:  # fmt: skip
    """Prune the images of every `model.generate(...)` and `model(...)` call, until `handle.remove()`.

    What you count stays as it is: `generate` returns your prompt in front of the new tokens, your callbacks get it, and
    `max_length` means the same. `model(...)` returns the logits of the shorter sequence, in which the columns behind
    the last image keep their place from the end; `logits_to_keep` counts your columns. Calls with the cache that
    `model(...)` or `generate` filled go on behind your whole prompt. Attentions and hidden states are those of the
    tokens that stayed. Threads may share the model; copies and pickles of it are plain models.

    Inputs that `prune_inputs` returned pass through. Methods in the decoder allow one handle at a time. `FastV` prunes
    between the layers: `keep` is what the last drop leaves of each image, and `model(...)` returns logits of the
    caller's sequence, without a meaning at dropped tokens. To `VisionPulse` it is the most that a step attends to.

    In training, `Trainer` and TRL's trainers get the loss of the tokens that stay; placeholders are no labels.

    Args:
        model: A vision-language model of transformers, with its head; also inside `torch.compile`, PEFT or DDP.
        keep: As in `prune_inputs`; also a list of budgets or a tuple of two ends, of which one is drawn for each batch
            that a gradient is taken of. Outside of training mode the first one holds.
        method, positions, per, modalities, explain, encode, max_encoder_memory, skip: As in `prune_inputs`.
        seed: Of the draws.

    Returns:
        A handle with `report` and `remove()`.

    Raises:
        FoveateError: The model or the settings cannot be used. Nothing is attached then.

    Warns:
        FoveateWarning: Pruning is attached already. The newest handle decides, until it is removed.

    Example:
        handle = foveate.attach(model, keep=64)
        model.generate(**inputs)
        handle.remove()
    """
    model = unwrap(model)
    is_second = find_chain(model) is not None
    handle = _attach(
        model, resolve_any(method), keep, positions, per, modalities, explain, seed, encode, max_encoder_memory, skip
    )
    if is_second:
        text = "Pruning is attached to this model already: the newest handle decides, until it is removed."
        warnings.warn(text, FoveateWarning, stacklevel=2)
    return handle


def _attach(
    model: Any, method: Method | InnerMethod, keep: Keeps, positions: Positions, per: Per,
    modalities: Sequence[str], explain: bool, seed: int, encode: Encode, memory: int | None, skip: Skip,
) -> Handle | DecoderHandle:  # fmt: skip
    """`attach` for a transformers model, with any number of handles."""
    if is_attached(model):
        raise InputError("An in-decoder method is attached to this model: remove its handle first.")
    budget, draws = make_draws(keep, seed)
    if isinstance(method, InnerMethod):
        if draws is not None or isinstance(budget, (Policy, Recency, str)):
            raise InputError(f"keep={describe(keep)} is not for {method.name}, which takes one budget: give a number.")
        _check_decoder_settings(model, method, budget, positions, per, modalities, explain, encode, memory, skip)
        return _attach_inside(model, method, budget)
    checked = check_settings(budget, method, positions, per, modalities, explain, encode, memory, skip)
    settings = find_policy(model, checked)
    if isinstance(settings.policy, Policy) and settings.policy.retries:
        raise InputError("A policy with_retry() is for foveate.generate_with_retry: attach the policy as it is.")
    settings = replace(settings, is_drawn=draws is not None)
    check_needs(model, family_of(model), settings.method)
    check_encoder(family_of(model), settings)
    if not hasattr(model, "generate"):
        raise ModelError(f"{type(model).__name__} has no generate: attach to the whole model, with its head.")
    chain = find_chain(model) or Chain(model)
    watch_trainers(_read_pruning)
    handle = Handle(chain, settings, draws)
    chain.add(handle)
    return handle


def _attach_inside(model: Any, method: InnerMethod, keep: int | float) -> DecoderHandle:
    """`attach` for a method inside the decoder."""
    if isinstance(method, DecoderMethod):
        return attach_decoder(model, keep=keep, method=method)
    if isinstance(method, StepMethod):
        return attach_steps(model, keep=keep, method=method)
    raise InputError(f"method={describe(method)} derives from no kind of method: use DecoderMethod or StepMethod.")


def _read_pruning(model: Any) -> tuple[Any, Family, PruneSettings] | None:
    """The model inside what wraps it, its adapter and the settings of its pruning; None where it is not pruned."""
    try:
        inner = unwrap(model)
    except ModelError:  # a trainer of something else
        return None
    chain = find_chain(inner)
    return None if chain is None else (inner, chain.family, find_newest(chain.handles).settings)


def _check_decoder_settings(
    model: Any, method: InnerMethod, keep: int | float, positions: str, per: str, modalities: Sequence[str],
    explain: bool, encode: Encode, memory: int | None, skip: Skip,
) -> None:  # fmt: skip
    """Raise a `FoveateError` for settings that a method inside the decoder cannot follow."""
    check_choices(keep, positions, per, modalities, explain)
    check_encoder_settings(encode, memory, skip)
    reasons = {
        f"per={per!r}": per != "image" and "which counts by image",
        f"modalities={modalities!r}": "image" not in modalities and "which prunes images",
        "explain=True": explain and "which selects by attention alone",
        f"encode={encode!r}": encode != 1 and "which sees the whole image",
        f"max_encoder_memory={memory!r}": memory is not None and "which leaves the encoder as it is",
        f"skip={skip!r}": skip is not None and "which sees the whole image",
        f"positions={positions!r}": positions != "original" and "whose tokens stay in place",
    }
    for setting, reason in reasons.items():
        if reason:
            raise InputError(f"{setting} is not for {method.name}, {reason}: leave it out.")
    if find_chain(model) is not None:
        raise InputError(f"Another method is attached to this model: remove its handle before {method.name}.")


@contextmanager
def pruning(
    model: Any, *, keep: Keeps, method: str | Method | InnerMethod = "foveate",
    positions: Positions = "original", per: Per = "image", modalities: Sequence[str] = ("image", "video"),
    explain: bool = False, seed: int = 0, encode: Encode = 1.0, max_encoder_memory: int | None = None,
    skip: Skip = None,
) -> Iterator[Handle | DecoderHandle]:  # fmt: skip
    """`attach` for the length of a with-block, with the same arguments. Blocks may be nested: the innermost decides.

    Threads and tasks may each have a block of their own on one model; one without a block follows the newest of all.

    Example:
        with foveate.pruning(model, keep=0.1) as handle:
            model.generate(**inputs)
    """
    model = unwrap(model)
    handle = _attach(
        model, resolve_any(method), keep, positions, per, modalities, explain, seed, encode, max_encoder_memory, skip
    )
    try:
        yield handle
    finally:
        handle.remove()
