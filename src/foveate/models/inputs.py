"""What a processor's output holds for a family: which modalities, and which inputs belong to their encoders."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from foveate.errors import InputError

if TYPE_CHECKING:
    from foveate.models.base import Family

SEQUENCE = {"input_ids", "attention_mask", "position_ids", "labels"}  # of the prompt, though an encoder may read them


def find_modalities(family: Family, inputs: Mapping[str, Any]) -> list[str]:
    """The modalities of which these inputs hold something that can be pruned, raw or encoded.

    Raises `InputError` for videos where the family has none.
    """
    ready = inputs.get("mm_encoder_outputs") or {}
    modalities = []
    for modality, name in family.traits.main_inputs.items():
        is_raw = inputs.get(name) is not None
        if not is_raw and ready.get(modality) is None:
            continue
        if is_raw and ready.get(modality) is not None:
            raise InputError(f"Give either {name} or mm_encoder_outputs, not both.")
        if modality in family.traits.modalities:
            modalities.append(modality)
        elif modality != "audio":
            raise InputError(
                f"{modality.capitalize()}s of {family.model_type!r} models are not supported: "
                "remove them from the prompt, or pass a video's frames as images."
            )
    return modalities


def drop_raw(family: Family, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs without pixels and spectrograms, for use with what was encoded before."""
    return {name: value for name, value in inputs.items() if name not in raw_names(family)}


def raw_names(family: Family) -> set[str]:
    """The names under which pixels and spectrograms come."""
    main = set(family.traits.main_inputs.values())
    return main | {alias for alias, name in family.traits.aliases.items() if name in main}


def rename_inputs(family: Family, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs under the names that the family's adapter and the stock model have for them."""
    renamed = {
        name: inputs[alias]
        for alias, name in family.traits.aliases.items()
        if inputs.get(alias) is not None and inputs.get(name) is None
    }
    gone = {alias for alias, name in family.traits.aliases.items() if name in renamed}
    return {name: value for name, value in inputs.items() if name not in gone} | renamed


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


def lacks_grids(family: Family, config: Any, inputs: Mapping[str, Any], names: Collection[str]) -> bool:
    """Whether images came encoded, without the grids among `names`: the stock model then counts positions.

    Raises `InputError` where only some of the grids are missing.
    """
    grids = {m: f"{m}_grid_thw" for m in family.traits.modalities if f"{m}_grid_thw" in names}
    shown = [m for m in grids if bool(family.placeholders(config, inputs, m).any())]
    missing = [grids[m] for m in shown if inputs.get(grids[m]) is None]
    if missing and len(missing) < len(shown):
        raise InputError(f"{missing[0]} is missing, which positions are numbered by: pass it too.")
    return bool(missing)
