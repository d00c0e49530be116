"""How images come into a model that is being pruned: by its `forward`, not behind the back of the hooks around it."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from foveate.errors import InputError
from foveate.models import Family
from foveate.models.cache import NAMES
from foveate.models.inputs import raw_names
from foveate.models.kept import is_pruned


def has_raw(family: Family, inputs: Mapping[str, Any]) -> bool:
    """Whether these inputs hold images, videos or audios that are not encoded."""
    return any(inputs.get(name) is not None for name in raw_names(family))


def list_encoded(inputs: Mapping[str, Any]) -> list[Any]:
    """The encoded images, videos and audios of these inputs."""
    return [output for output in (inputs.get("mm_encoder_outputs") or {}).values() if output is not None]


def has_images(family: Family, inputs: Mapping[str, Any]) -> bool:
    """Whether these inputs hold images, videos or audios that were not pruned; they may be encoded."""
    return has_raw(family, inputs) or not all(map(is_pruned, list_encoded(inputs)))


def name_arguments(model: Any) -> list[str]:
    """The parameters of the model's `forward`: of the first class that names its inputs, where others wrap it."""
    for kind in type(model).__mro__:
        forward = vars(kind).get("forward")
        names = [] if forward is None else list(inspect.signature(forward).parameters)[1:]
        if "input_ids" in names:
            return names
    return []


def split_arguments(model: Any, family: Family, kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of `generate`: the inputs of the model, and the settings."""
    kwargs = dict(kwargs)
    if kwargs.get("inputs") is not None:
        kwargs["input_ids"] = kwargs.pop("inputs")
    own = name_arguments(model)
    # The cache has an older name too, which is not in the signature.
    names = {*own, "input_ids", "inputs_embeds", *NAMES, *family.traits.aliases}
    if not own:  # other code put a `forward` without names in its place
        names |= {name for name, value in kwargs.items() if isinstance(value, Tensor)} - {"negative_prompt_ids"}
    inputs = {name: value for name, value in kwargs.items() if name in names}
    return inputs, {name: value for name, value in kwargs.items() if name not in inputs}


def read_arguments(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `forward` by name, also where other code put a `forward` without names on the model.

    Raises `InputError` for arguments by position that have no names.
    """
    if not args:
        return dict(kwargs)
    names = name_arguments(model)
    if not names:
        raise InputError(f"forward of {type(model).__name__} has no names for its inputs: pass them by name.")
    return {**dict(zip(names, args, strict=False)), **kwargs}


def find_marked(model: Any, mark: str) -> Any:
    """The value of the attribute `mark` of the model's hook before `forward` that has it; None where none has."""
    hooks = getattr(model, "_forward_pre_hooks", {}).values()
    return next((getattr(hook, mark) for hook in hooks if hasattr(hook, mark)), None)


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
