"""Which family a model belongs to, and the table of all that transformers has."""

from dataclasses import dataclass
from importlib.metadata import version
from inspect import signature
from typing import Any

from foveate.errors import ModelError, UnknownFamilyError
from foveate.models.base import Family
from foveate.models.outside import OUTSIDE
from foveate.models.registry import FAMILIES
from foveate.models.versions import is_installed, warn_if_untested


def family_of(model: Any) -> Family:
    """The family of a model, by its `config.model_type`.

    Raises `UnknownFamilyError` with what to do if there is none, `ModelError` if this is no transformers model or runs
    code of its own. Warns once where transformers is newer than any version that foveate is tested with.
    """
    warn_if_untested()
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    if model_type is None or not hasattr(model, "base_model"):
        raise ModelError(f"{type(model).__name__} is not a transformers model: load one with from_pretrained.")
    if type(model).forward.__module__.startswith("transformers_modules"):
        raise ModelError(
            f"{type(model).__name__} brings a forward of its own (remote code), which no law was checked on: "
            "load it with trust_remote_code=False if transformers has the model, or write a family for it."
        )
    if model_type not in FAMILIES.names() and model_type not in OUTSIDE:
        raise UnknownFamilyError(_unknown(model_type, _tried(model)))
    return family(model_type)


def family(model_type: str) -> Family:
    """The registered family of this name. Raises `UnknownFamilyError` with what to do if there is none."""
    if model_type not in FAMILIES.names():
        raise UnknownFamilyError(_unknown(model_type, outside(model_type)[1]))
    adapter = FAMILIES.load(model_type)
    if not issubclass(adapter, Family):
        raise UnknownFamilyError(f"The plug-in for {model_type!r} is no foveate.models.Family: derive it from that.")
    if not is_installed(adapter.traits.versions):
        raise UnknownFamilyError(
            f"Models of type {model_type!r} need transformers {adapter.traits.versions}, and this is "
            f"{version('transformers')}: pip install 'transformers{adapter.traits.versions}'."
        )
    return adapter(model_type)


def outside(model_type: str) -> tuple[str, str]:
    """The status of a model type that no family is registered for, and the reason."""
    return OUTSIDE.get(model_type, ("not yet", "nobody has tried it"))


def _unknown(model_type: str, reason: str) -> str:
    return (
        f"Models of type {model_type!r} are not supported: {reason}. `foveate families` lists those that are; "
        "to add one, write a foveate.models.Family and name it in the entry-point group foveate.families "
        "(CONTRIBUTING.md, 'Add a family')."
    )


def _tried(model: Any) -> str:
    """What a model lacks of the shared conventions."""
    missing = [
        what
        for what, there in (
            ("mm_encoder_outputs in its forward", "mm_encoder_outputs" in signature(model.forward).parameters),
            ("get_image_features", hasattr(model.base_model, "get_image_features")),
            ("config.image_token_id", getattr(model.config, "image_token_id", None) is not None),
        )
        if not there
    ]
    if missing:
        return f"it was looked at by the shared conventions and lacks {' and '.join(missing)}"
    return "it has what the shared conventions need, but no law was checked on it"


def available() -> list[str]:
    """The registered model types whose laws hold on the installed transformers."""
    from transformers import CONFIG_MAPPING

    names = [name for name in FAMILIES.names() if name in CONFIG_MAPPING]
    return [name for name in names if is_installed(FAMILIES.load(name).traits.versions)]


def describe(adapter: type[Family]) -> str:
    """The first line of an adapter's docstring: the models it covers and what is special about them."""
    return (adapter.__doc__ or "").splitlines()[0].rstrip(".")


@dataclass(frozen=True)
class FamilyInfo:
    """A row of `foveate.families()`.

    `status` is "supported" (all laws hold on a tiny random model), "not applicable" or "not yet"; `modalities` are what
    can be pruned; `versions` of transformers it needs; `note` is what is special about it, or the reason.
    """

    model_type: str
    architecture: str
    status: str
    modalities: tuple[str, ...]
    versions: str
    note: str


def families() -> list[FamilyInfo]:
    """Every image-text-to-text model of the installed transformers, and what plug-ins add, one row a model type."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as MAPPING

    rows = []
    for name in sorted({*MAPPING, *available()}):
        architecture = MAPPING.get(name, "")
        if name in FAMILIES.names():
            own = FAMILIES.load(name)
            status, note = "supported", describe(own)
            if not is_installed(own.traits.versions):
                status, note = "not yet", f"only with transformers {own.traits.versions}, whose stock model is right"
            rows.append(FamilyInfo(name, architecture, status, own.traits.modalities, own.traits.versions, note))
        else:
            status, reason = outside(name)
            rows.append(FamilyInfo(name, architecture, status, (), "", reason))
    return rows
