"""Hooks around `forward` and the decoder's layers of a live model: what every method inside the decoder is put on.

One hook before and one after the model's `forward` open and close a call, one before and one after a decoder layer may
change what it reads and returns. Nothing is replaced, and `generate` is the stock one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from foveate.errors import ModelError
from foveate.hooks.attention import check_stack
from foveate.hooks.copies import hide_from_copies, show_to_copies
from foveate.hooks.entry import find_marked, guard_base
from foveate.hooks.handles import ShownHandle
from foveate.hooks.report import DecoderReport
from foveate.method.inner import InnerMethod
from foveate.models import Family, family_of

MARK = "foveate_decoder"  # attribute of our hook before `forward`
COMPILED = (
    "The decoder's layers ran as torch.compile had compiled them before, without the hooks that prune "
    "between them: call torch.compiler.reset() after attach."
)


class DecoderHandle(ShownHandle[DecoderReport]):
    """In-decoder pruning that is switched on for one model. `report` is that of the last prompt; `remove()` ends it."""

    def __init__(
        self, model: Any, keep: int | float, method: InnerMethod, hook: Callable[[Any, DecoderHandle], LayerHooks]
    ) -> None:
        self.keep, self.method = keep, method
        self._hooks = hook(model, self)

    def remove(self) -> None:
        """Take every hook off; the model is as it was before. Safe to call twice."""
        self._hooks.remove()


class LayerHooks(ABC):
    """Hooks on the decoder layers from number `first` on, and around `forward`."""

    def __init__(self, model: Any, handle: DecoderHandle, first: int) -> None:
        self.model, self.handle, self.family = model, handle, family_of(model)
        self.decoder = self.family.decoder(model)
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
        for number, layer in list(enumerate(self.decoder.layers))[first:]:
            before = torch.compiler.disable(partial(self.before, number))
            after = torch.compiler.disable(partial(self.after, number))
            self.installed[layer] = [
                layer.register_forward_pre_hook(before, with_kwargs=True), layer.register_forward_hook(after)
            ]  # fmt: skip
        guard = guard_base(model, self.family, self.is_inside)
        if guard:
            self.installed[model.base_model] = guard
        for module, hooks in self.installed.items():
            hide_from_copies(module, hooks, {})

    def remove(self) -> None:
        """Take every hook off. Safe to call twice."""
        for module, hooks in self.installed.items():
            show_to_copies(module)
            for hook in hooks:
                hook.remove()
        self.installed.clear()

    @abstractmethod
    def is_inside(self) -> bool:
        """Whether this thread is in the model's `forward`."""

    @abstractmethod
    def open(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments of `forward`, changed; None for unchanged."""

    @abstractmethod
    def before(self, number: int, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments of a layer, changed; None for unchanged."""

    def after(self, number: int, layer: Any, args: Any, output: Tensor) -> Tensor:
        """The output of a layer."""
        del number, layer, args
        return output

    @abstractmethod
    def close(self, model: Any, args: Any, output: Any) -> None:
        """End the call; `output` is None after an exception."""


def check_model(model: Any, name: str) -> Family:
    """The adapter of a model on which methods inside the decoder were checked. Raises `ModelError` for others."""
    family = family_of(model)
    if not family.traits.in_decoder:
        raise ModelError(
            f"{name} prunes inside the decoder, which was not checked on {family.model_type!r} models: "
            "use a method that prunes the input, such as foveate."
        )
    check_stack(model.config)
    return family


def is_attached(model: Any) -> bool:
    """Whether an in-decoder method is attached to this model."""
    return find_marked(model, MARK) is not None
