"""How images come into a model that is being pruned: by its `forward`, not behind the back of the hooks around it."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from foveate.errors import InputError
from foveate.models import Family
from foveate.models.inputs import raw_names
from foveate.models.kept import is_pruned


def has_images(family: Family, inputs: Mapping[str, Any]) -> bool:
    """Whether these inputs hold images, videos or audios that were not pruned; they may be encoded."""
    if any(inputs.get(name) is not None for name in raw_names(family)):
        return True
    outputs = (inputs.get("mm_encoder_outputs") or {}).values()
    return any(output is not None and not is_pruned(output) for output in outputs)


def read_arguments(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `forward` by name, also where other code put a `forward` without names on the model."""
    names = list(inspect.signature(type(model).forward).parameters)[1:]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def guard_base(model: Any, family: Family, is_inside: Callable[[], bool]) -> list[Any]:
    """Let the base model refuse images unless `is_inside()`; the hook's handle, or none where it is the model itself.

    `model.forward(...)` and other code may call it past the hooks around `forward`.
    """
    base = model.base_model

    def check(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not is_inside() and has_images(family, read_arguments(module, args, kwargs)):
            raise InputError(
                f"{type(module).__name__} was called past {type(model).__name__}, to which pruning is attached: "
                "call model(...) itself, or prune the inputs with prune_inputs first."
            )

    return [] if base is model else [base.register_forward_pre_hook(check, with_kwargs=True)]
