"""`encode`: pictures through the vision encoder once, for any number of calls of `prune_inputs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor

from foveate.errors import InputError, ModelError
from foveate.method import Method, methods, resolve
from foveate.models import Family, family_of


@dataclass(frozen=True, eq=False)
class Encoded:
    """The pictures and clips of one batch after their encoders.

    `outputs` are the model's own, by modality, as it takes them in `mm_encoder_outputs`, without the hidden states of
    the encoder's layers. `extras` are what methods read beside it, a mapping a picture, by the names of
    `VisualTokens`' fields.
    """

    outputs: Mapping[str, Any]
    extras: tuple[Mapping[str, Tensor], ...] = ()


def encode(model: Any, inputs: Mapping[str, Any], *, methods: Sequence[str | Method] = ()) -> Encoded:
    """Run the encoders once, for `prune_inputs(model, inputs, encoded=...)` with any of `methods`.

    `inputs` are the processor's, with `pixel_values`, or clips as the model takes them; `methods` are names or
    configured objects, of which only those that need extras (`foveate.methods()`) matter here. Where gradients are on,
    all that the encoder keeps for them lives as long as the result: call it under `torch.no_grad()` unless you train.

    Raises `ModelError` if the model cannot give what they need, `InputError` for inputs without a picture.
    """
    chosen = [resolve(method) for method in methods]
    family = family_of(model)
    for method in chosen:
        check_needs(model, family, method)
    if inputs.get("mm_encoder_outputs"):
        raise InputError("Give either pixel_values or mm_encoder_outputs, not both.")
    found = [modality for modality in family.present(inputs) if modality != "audio"]
    if not found:
        raise InputError("There is no picture to encode: pass pixel_values, as the model's processor returns them.")
    return run(model, family, inputs, found, frozenset[str]().union(*(method.needs for method in chosen)))


def run(
    model: Any, family: Family, inputs: Mapping[str, Any], modalities: Sequence[str], needs: frozenset[str]
) -> Encoded:
    """The family's encoders on checked inputs; features that the caller has already are taken as they are."""
    outputs: dict[str, Any] = {}
    extras: Sequence[Mapping[str, Tensor]] = ()
    for modality in modalities:
        if modality != "image":
            if needs:
                raise InputError(f"{modality} tokens have no {' and '.join(sorted(needs))}: use another method.")
            outputs[modality] = _lean(family.encode(model, inputs, modality))
            continue
        if needs and inputs.get(family.raw["image"]) is None:
            raise InputError(
                f"mm_encoder_outputs hold no {' and '.join(sorted(needs))}, which this method reads: "
                "pass pixel_values instead, or encoded=foveate.encode(model, inputs, methods=[...])."
            )
        encoded, extras = family.encode_with(model, inputs, needs)
        outputs[modality] = _lean(encoded)
    return Encoded(outputs, tuple(extras))


def _lean(output: Any) -> Any:
    """Without the hidden states of the encoder's layers: nothing reads them once the features are made.

    Older transformers keeps those of all layers wherever a model reads one of them, newer versions that one alone.
    """
    if getattr(output, "hidden_states", None) is None or not is_dataclass(output):
        return output
    kind: Any = type(output)
    return kind(**{field.name: getattr(output, field.name) for field in fields(kind) if field.name != "hidden_states"})


def check_needs(model: Any, family: Family, method: Method) -> None:
    """Raise `ModelError` if the model cannot give what the method reads; names those that work on it."""
    given = family.extras(model.config)
    missing = method.needs - given
    if missing:
        asked = "the attention of a [CLS] token" if "cls_attention" in missing else " and ".join(sorted(missing))
        work = ", ".join(row.name for row in methods() if row.prunes == "input" and given.issuperset(row.needs))
        raise ModelError(
            f"{method.name} needs {asked}, which the vision tower of this {model.config.model_type} model has not: "
            f"use one of {work}."
        )
