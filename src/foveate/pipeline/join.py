"""Images that were encoded one by one, joined to what one call of the encoder returns."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from foveate.models import Family
from foveate.models.base import Inputs
from foveate.models.inputs import find_modalities
from foveate.models.kept import regroup_output
from foveate.pipeline.encode import Encoded


def reads_images_alone(model: Any, family: Family, inputs: Inputs) -> bool:
    """Whether the encoder reads images and nothing else: no question, and no video beside them."""
    names = family.encoder_inputs(model, inputs)
    return find_modalities(family, inputs) == ["image"] and not any("input_ids" in name for name in names)


def can_join(family: Family) -> bool:
    """Whether images may be encoded one by one: nothing is read of the output but their tokens."""
    plain = type(family).keep is Family.keep and type(family).features is Family.features
    return plain and family.traits.in_sequence


def join_images(family: Family, parts: Sequence[Encoded]) -> Encoded:
    """One `Encoded` with the images of all parts, in order, where `can_join` allows it."""
    outputs = [part.outputs["image"] for part in parts]
    entries = [entry for output in outputs for entry in family.features(output)]
    levels = [list(_levels(output)) for output in outputs]
    deep = [[entry for level in same for entry in level] for same in zip(*levels, strict=True)]
    joined = regroup_output(outputs[0], entries, **({"deepstack_features": deep} if deep else {}))
    return Encoded({"image": joined}, tuple(extras for part in parts for extras in part.extras))


def count_bytes(value: Any) -> int:
    """The bytes of all tensors in an encoder's output or in an `Encoded`."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Encoded):
        return count_bytes(value.outputs) + count_bytes(value.extras)
    if is_dataclass(value) and not isinstance(value, Mapping):
        return sum(count_bytes(getattr(value, field.name)) for field in fields(value))
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return sum(map(count_bytes, parts))


def _levels(output: Any) -> Sequence[Sequence[Tensor]]:
    """The entries of every level of DeepStack."""
    return getattr(output, "deepstack_features", None) or ()
