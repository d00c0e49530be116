"""What the stock encoders read, by their signatures."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from foveate.errors import InputError

SEQUENCE = {"input_ids", "attention_mask", "position_ids", "labels"}  # of the prompt, though an encoder may read them


def find_raw(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What of these inputs the model's encoders read, and nothing else does."""
    encoders = (getattr(model.base_model, f"get_{modality}_features", None) for modality in ("image", "video", "audio"))
    names = {name for encoder in encoders if encoder is not None for name in inspect.signature(encoder).parameters}
    return {name: value for name, value in inputs.items() if name in names - SEQUENCE}


def make_arguments(encoder: Callable[..., Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """`inputs`, and None for what the encoder needs but the stock model can do without."""
    parameters = inspect.signature(encoder).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return {**dict.fromkeys(needed), **inputs}


def lacks_grids(family: Any, config: Any, inputs: Mapping[str, Any], names: Collection[str]) -> bool:
    """Whether images came encoded, without the grids among `names`: the stock model then counts positions.

    Raises `InputError` where only some of the grids are missing.
    """
    grids = {m: f"{m}_grid_thw" for m in family.traits.modalities if f"{m}_grid_thw" in names}
    shown = [m for m in grids if bool(family.placeholders(config, inputs, m).any())]
    missing = [grids[m] for m in shown if inputs.get(grids[m]) is None]
    if missing and len(missing) < len(shown):
        raise InputError(f"{missing[0]} is missing, which positions are numbered by: pass it too.")
    return bool(missing)
