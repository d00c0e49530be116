"""Step 1: images, videos and audios through their encoders, once for any number of calls of `prune_inputs`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from torch import Tensor

from foveate.errors import InputError, ModelError, describe
from foveate.method import Method, MethodInfo, methods, resolve
from foveate.method.checks import check_tensor
from foveate.models import Family, family_of
from foveate.models.generation import has_own_decoder
from foveate.models.inputs import find_modalities, rename_inputs
from foveate.models.wrappers import gather_shards, unwrap
from foveate.pipeline.inputs import check_containers, check_encoder_inputs, check_outputs, explain_refusal
from foveate.pipeline.settings import PruneSettings

DECODER_EXTRAS = frozenset({"attention", "cross_attention"})  # what methods read that no encoder gives
Marks = Mapping[str, Sequence[Mapping[str, Any]]]
NAN = "The encoder returned NaN: look for it in pixel_values, or use a dtype of a wider range."


@dataclass(frozen=True, eq=False)
class Encoded:
    """The images and videos of one batch after their encoders.

    Args:
        outputs: What the model's encoders returned, by modality, with an entry for each image where the prompt tells
            tiles apart, without the hidden states of their layers. `prune_inputs(..., keep=1.0, encoded=encoded)` has
            the `mm_encoder_outputs` that the model itself takes.
        extras: What methods read beside the output, a mapping for each image, by the names of `VisualTokens`' fields.
    """

    outputs: Mapping[str, Any] = field(default_factory=dict)
    extras: tuple[Mapping[str, Tensor], ...] = ()


@dataclass(frozen=True, eq=False)
class EncodedPart:
    """The outputs of encoders that saw a part of the images.

    Args:
        encoded: What they returned, with NaN for the tokens of all others; None where there are no images.
        marks: By modality, for every image or video what its record says about it, by fields of `VisualInput`.
        notes: What the caller should know, in sentences.
        seconds: Time to choose what to encode, without the encoder.
        glance_seconds: What a first look took of them.
    """

    encoded: Encoded | None
    marks: Marks = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    glance_seconds: float = 0.0


def encode(model: Any, inputs: Mapping[str, Any], *, methods: Sequence[str | Method] = ()) -> Encoded:
    """Run the encoders once, for `prune_inputs(model, inputs, encoded=...)` with any of `methods`.

    Where gradients are on, all that the encoder keeps for them lives as long as the result: call this under
    `torch.no_grad()` unless you train.

    Args:
        model: A model of transformers.
        inputs: The processor's output, with `pixel_values`, or videos as the model takes them.
        methods: Names or configured methods. Only those that need extras (`foveate.methods()`) matter here.

    Raises:
        ModelError: The model cannot give what the methods need.
        InputError: The inputs hold no image and no video.

    Example:
        encoded = foveate.encode(model, inputs, methods=["visionzip"])
        short = foveate.prune_inputs(model, inputs, keep=0.1, method="visionzip", encoded=encoded)
    """
    model = unwrap(model)
    family = family_of(model)
    if not isinstance(methods, (list, tuple)):
        raise InputError(f'methods={describe(methods)}: give a list of names or methods, such as ["visionzip"].')
    resolved = [resolve(method) for method in methods]
    for method in resolved:
        check_needs(model, family, method)
    check_containers(inputs)
    inputs = rename_inputs(family, inputs)
    check_encoder_inputs(family, inputs)
    if inputs.get("mm_encoder_outputs"):
        raise InputError("Give either pixel_values or mm_encoder_outputs, not both.")
    modalities = [modality for modality in find_modalities(family, inputs) if modality != "audio"]
    if not modalities:
        raise InputError("There is no image to encode: pass pixel_values, as the model's processor returns them.")
    needs = frozenset[str]().union(*(method.needs for method in resolved)) - DECODER_EXTRAS
    return _run_encoders(model, family, inputs, modalities, needs)


def encode_missing(
    model: Any, family: Family, inputs: Mapping[str, Any], settings: PruneSettings, encoded: Encoded | None
) -> Encoded:
    """Encode what `inputs` show and `encoded` does not hold; no outputs where nothing is shown.

    Raises `InputError` if `encoded` does not fit, or if placeholders came without an image.
    """
    shown = [m for m in find_modalities(family, inputs) if m != "audio" or m in settings.modalities]
    if encoded is not None:
        _check_encoded(encoded, settings.method, ready=bool(inputs.get("mm_encoder_outputs")))
    ready = encoded or Encoded()
    missing = [modality for modality in shown if modality not in ready.outputs]
    _check_placeholders(model, family, inputs, [*ready.outputs, *missing])
    if not missing:
        return ready
    needs = settings.method.needs - DECODER_EXTRAS if encoded is None or "image" in missing else frozenset[str]()
    fresh = _run_encoders(model, family, inputs, missing, needs)
    outputs = {**ready.outputs, **fresh.outputs}
    ordered = {modality: outputs[modality] for modality in family.traits.main_inputs if modality in outputs}
    return Encoded(ordered, fresh.extras or ready.extras)


def check_needs(model: Any, family: Family, method: Method) -> None:
    """Raise `ModelError` if the model cannot give what the method needs; it names the methods that work on it."""
    missing = method.needs - list_extras(model, family)
    if missing:
        kind, work = model.config.model_type, ", ".join(row.name for row in list_methods(model, family))
        if "cross_attention" in missing:
            raise ModelError(
                f"{method.name} reads the attention that words pay across to the image in layers of their own, which "
                f"{kind} models lack: use one of {work}."
            )
        if missing & DECODER_EXTRAS:
            raise ModelError(
                f"{method.name} reads how the prompt attends to the image, and in {kind} models the two are not in one "
                f"sequence: use one of {work}."
            )
        needed = "the attention of a [CLS] token" if "cls_attention" in missing else " and ".join(sorted(missing))
        raise ModelError(
            f"{method.name} needs {needed}, which the vision tower of this {kind} model lacks: use one of {work}."
        )


def check_reads_parts(settings: PruneSettings, setting: str) -> None:
    """Raise `ModelError` for a method that reads the encoder's work on the whole image, of which `setting` takes parts.

    `setting` is as the user wrote it, such as "encode=0.4".
    """
    needs = settings.method.needs - DECODER_EXTRAS
    if needs:
        raise ModelError(
            f"{settings.method.name} reads {' and '.join(sorted(needs))} of the whole image, of which {setting} leaves "
            f"parts out: use another method, or leave {setting.partition('=')[0]} out."
        )


def list_extras(model: Any, family: Family) -> frozenset[str]:
    """The extras of `VisualTokens` that this model can give."""
    in_sequence = family.traits.in_sequence and not has_own_decoder(model)
    return family.extras(model.config) | ({"attention"} if in_sequence else frozenset())


def list_methods(model: Any, family: Family) -> list[MethodInfo]:
    """The methods that can prune this model's input."""
    extras = list_extras(model, family)
    return [row for row in methods() if row.prunes == "input" and extras.issuperset(row.needs)]


def _run_encoders(
    model: Any, family: Family, inputs: Mapping[str, Any], modalities: Sequence[str], needs: frozenset[str]
) -> Encoded:
    """Run the family's encoders on checked inputs; features that the caller already has are taken as they are."""
    gather_shards(model)
    outputs: dict[str, Any] = {}
    extras: Sequence[Mapping[str, Tensor]] = ()
    for modality in modalities:
        if modality != "image":
            if needs:
                raise InputError(f"{modality} tokens have no {' and '.join(sorted(needs))}: use another method.")
            with explain_refusal(model):
                outputs[modality] = drop_hidden_states(family.encode(model, inputs, modality))
            continue
        if needs and inputs.get(family.traits.main_inputs["image"]) is None:
            raise InputError(
                f"mm_encoder_outputs hold no {' and '.join(sorted(needs))}, which this method reads: "
                "pass pixel_values instead, or encoded=foveate.encode(model, inputs, methods=[...])."
            )
        with explain_refusal(model):
            output, extras = family.encode_with(model, inputs, needs)
        outputs[modality] = drop_hidden_states(output)
    return Encoded(outputs, tuple(extras))


def drop_hidden_states(output: Any) -> Any:
    """The output without the hidden states of the encoder's layers: nothing reads them once the features are made.

    Older transformers keeps those of all layers wherever a model reads one of them, newer versions that one alone.
    """
    if getattr(output, "hidden_states", None) is None or not is_dataclass(output):
        return output
    kind: Any = type(output)
    return kind(**{field.name: getattr(output, field.name) for field in fields(kind) if field.name != "hidden_states"})


def _check_encoded(encoded: Encoded, method: Method, *, ready: bool) -> None:
    if not isinstance(encoded, Encoded):
        raise InputError(f"encoded is a {type(encoded).__name__}: pass what foveate.encode returned.")
    is_outputs = isinstance(encoded.outputs, Mapping) and isinstance(encoded.extras, (list, tuple))
    if not is_outputs or not all(isinstance(extras, Mapping) for extras in encoded.extras):
        raise InputError("encoded holds no outputs by modality and extras by image: pass what foveate.encode returned.")
    check_outputs(encoded.outputs)
    for name, value in ((name, value) for extras in encoded.extras for name, value in extras.items()):
        check_tensor(f"{describe(name)} of encoded", value)
    if ready:
        raise InputError("Give either mm_encoder_outputs or encoded, not both.")
    missing = {name for extras in encoded.extras for name in method.needs - DECODER_EXTRAS - extras.keys()}
    if missing:
        raise InputError(
            f"encoded holds no {' and '.join(sorted(missing))}, which {method.name} reads: "
            f'name it when you encode, foveate.encode(model, inputs, methods=["{method.name}"]).'
        )


def _check_placeholders(model: Any, family: Family, inputs: Mapping[str, Any], shown: Sequence[str]) -> None:
    """Raise `InputError` for placeholders whose image, video or audio did not come."""
    for modality in family.traits.modalities:
        if modality in shown or modality == "audio":
            continue
        if bool(family.placeholders(model.config, inputs, modality).any()):
            raise InputError(
                f"The prompt has {modality} placeholders but no {modality} came with it: "
                f"pass {family.traits.main_inputs[modality]} too."
            )
