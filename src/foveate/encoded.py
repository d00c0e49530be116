"""`encode`: pictures through the vision encoder once, for any number of calls of `prune_inputs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from foveate.errors import InputError, ModelError
from foveate.family.base import Family, family_of
from foveate.method import Method, methods, resolve


@dataclass(frozen=True, eq=False)
class Encoded:
    """The pictures of one batch after the vision encoder.

    `output` is the model's own, as it takes it in `mm_encoder_outputs={"image": output}`. `extras` are what methods
    read beside it, a mapping an image, by the names of `VisualTokens`' fields.
    """

    output: Any
    extras: tuple[Mapping[str, Tensor], ...]


def encode(model: Any, inputs: Mapping[str, Any], *, methods: Sequence[str | Method] = ()) -> Encoded:
    """Run the vision encoder once, for `prune_inputs(model, inputs, encoded=...)` with any of `methods`.

    `inputs` are the processor's, with `pixel_values`; `methods` are names or configured objects, of which only those
    that need extras (`foveate.methods()`) matter here.

    Raises `ModelError` if the model cannot give what they need, `InputError` for inputs without a picture.
    """
    chosen = [resolve(method) for method in methods]
    family = family_of(model)
    for method in chosen:
        check_needs(model, family, method)
    if inputs.get("pixel_values") is None:
        raise InputError("There is no picture to encode: pass pixel_values, as the model's processor returns them.")
    if inputs.get("mm_encoder_outputs"):
        raise InputError("Give either pixel_values or mm_encoder_outputs, not both.")
    return run(model, family, inputs, frozenset[str]().union(*(method.needs for method in chosen)))


def run(model: Any, family: Family, inputs: Mapping[str, Any], needs: frozenset[str]) -> Encoded:
    """The family's encoder on checked inputs; features that the caller has already are taken as they are."""
    if needs and inputs.get("pixel_values") is None:
        raise InputError(
            f"mm_encoder_outputs hold no {' and '.join(sorted(needs))}, which this method reads: "
            "pass pixel_values instead, or encoded=foveate.encode(model, inputs, methods=[...])."
        )
    output, extras = family.encode_with(model, inputs, needs)
    return Encoded(output, tuple(extras))


def check_needs(model: Any, family: Family, method: Method) -> None:
    """Raise `ModelError` if the model cannot give what the method reads; names those that work on it."""
    given = family.extras(model.config)
    missing = method.needs - given
    if missing:
        asked = "the attention of a [CLS] token" if "cls_attention" in missing else " and ".join(sorted(missing))
        work = ", ".join(row.name for row in methods() if given.issuperset(row.needs))
        raise ModelError(
            f"{method.name} needs {asked}, which the vision tower of this {model.config.model_type} model has not: "
            f"use one of {work}."
        )
