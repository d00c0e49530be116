"""What `attach` changes in the options of `generate`: its mask, its limits, and what cannot work."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.models.generation import read_stop_ids

ASSISTED = ("assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp")


def make_mask(model: Any, settings: Mapping[str, Any], ids: Tensor) -> Tensor:
    """The mask that `generate` makes where there is none: padding is hidden, unless its id ends generation too."""
    pad = read_setting(model, settings, "pad_token_id")
    stops = read_setting(model, settings, "eos_token_id")
    if stops is None:  # the model's own configuration of generation has none either
        stops = read_stop_ids(model.config)
    if pad is None or pad in (stops if isinstance(stops, list) else [stops]):
        return torch.ones_like(ids)
    return ids.ne(pad).long()


def find_assistance(model: Any, settings: Mapping[str, Any]) -> str | None:
    """The option that asks for assisted decoding, if one does."""
    values = {name: read_setting(model, settings, name) for name in ASSISTED}
    return next((name for name, value in values.items() if value is not None and value is not False), None)


def check_unassisted(model: Any, settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for assisted decoding from embeddings: transformers cuts the mask down to no prompt at all."""
    option = find_assistance(model, settings)
    if option is not None:
        raise InputError(
            f"{option} does not work with pruned audio, which goes on as embeddings: "
            'leave it out, or "audio" out of modalities.'
        )


def check_loop(settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for a decoding loop of the caller's own, which would see the shorter prompt."""
    if settings.get("custom_generate") is not None:
        raise InputError(
            "custom_generate would count the pruned prompt: remove the handle, and pass it "
            "model.generate(**foveate.prune_inputs(model, inputs, keep=...), custom_generate=...)."
        )


def read_setting(model: Any, settings: Mapping[str, Any], name: str) -> Any:
    """The value of an option of `generate`: its argument, else its configuration's, else the model's own."""
    configs = (settings.get("generation_config"), model.generation_config)
    values = (settings.get(name), *(getattr(config, name, None) for config in configs))
    return next((value for value in values if value is not None), None)


def shorten_limits(model: Any, settings: dict[str, Any], length: int, dropped: int) -> dict[str, Any]:
    """`max_length` and `min_length` count the prompt (of `length`): subtract the dropped tokens, to mean the same.

    Raises `InputError` for a `max_length` that the prompt fills.
    """
    shorter = {}
    for name, instead in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
        limit = read_setting(model, settings, name)
        if limit and read_setting(model, settings, instead) is None:
            if name == "max_length" and limit <= length:
                raise InputError(f"max_length is {limit}, and the prompt has {length} tokens: set max_new_tokens.")
            shorter[name] = max(limit - dropped, 0)
    return override(settings, shorter)


def override(settings: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `generate` with other values, in a copy of the caller's configuration if there is one."""
    config = settings.get("generation_config")
    if config is None or not values:
        return {**settings, **values}
    changed = copy.deepcopy(config)
    changed.update(**values)
    return {**{k: v for k, v in settings.items() if k not in values}, "generation_config": changed}
