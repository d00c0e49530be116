"""What a processor's output holds for a family: which modalities, and which inputs belong to their encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from foveate.errors import InputError

if TYPE_CHECKING:
    from foveate.models.base import Family


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
