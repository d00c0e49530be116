"""Which family a model belongs to, and the table of all that transformers has."""

from __future__ import annotations

from typing import Any

from foveate.errors import ModelError, UnknownFamilyError
from foveate.family.base import Family
from foveate.registry import FAMILIES


def family_of(model: Any) -> Family:
    """The family of a model, by its `config.model_type`.

    Raises `UnknownFamilyError` with what to do if there is none, `ModelError` if this is no transformers model or runs
    code of its own.
    """
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    if model_type is None or not hasattr(model, "base_model"):
        raise ModelError(f"{type(model).__name__} is not a transformers model: load one with from_pretrained.")
    if type(model).forward.__module__.startswith("transformers_modules"):
        raise ModelError(
            f"{type(model).__name__} brings a forward of its own (remote code), which no law was checked on: "
            "load it with trust_remote_code=False if transformers has the model, or write a family for it."
        )
    if model_type not in FAMILIES.names():
        raise UnknownFamilyError(
            f"Models of type {model_type!r} are not supported yet (supported: {', '.join(FAMILIES.names())}). "
            "To add one, write a foveate.family.Family and name it in the entry-point group foveate.families "
            "(CONTRIBUTING.md, 'Add a family')."
        )
    return family(model_type)


def family(model_type: str) -> Family:
    """The registered family of this name."""
    found = FAMILIES.load(model_type)
    if not issubclass(found, Family):
        raise UnknownFamilyError(f"The plug-in for {model_type!r} is no foveate.family.Family: derive it from that.")
    return found(model_type)
