"""Step 1 with `skip`: merge units whose pixels repeat those of a neighbour are not encoded."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError, ModelError
from foveate.method.blanks import find_representatives
from foveate.models import Family
from foveate.models.inputs import find_modalities
from foveate.models.patch_encoder import PatchEncoder
from foveate.models.wrappers import gather_shards
from foveate.pipeline.encode import NAN, Encoded, EncodedPart, check_reads_parts, drop_hidden_states
from foveate.pipeline.inputs import explain_refusal
from foveate.pipeline.settings import PruneSettings
from foveate.pipeline.windows import find_limit

SKIPPED = ("image", "video")
CHANNELS = 3


def check_skip(family: Family, settings: PruneSettings) -> None:
    """Raise a `FoveateError` where `skip` is set and the family, the method or the settings leave nothing out."""
    if settings.skip is None:
        return
    if not isinstance(family, PatchEncoder):
        raise ModelError(
            f"skip leaves out patches before the encoder, and that of {family.model_type} models takes whole images: "
            "leave skip out."
        )
    check_reads_parts(settings, "skip")
    if not set(SKIPPED) & set(settings.modalities):
        raise InputError('skip leaves out parts of images and videos: add "image" to modalities, or leave skip out.')


def encode_distinct(
    model: Any, family: Family, inputs: Mapping[str, Any], settings: PruneSettings, encoded: Encoded | None
) -> EncodedPart:
    """Encode the merge units of images and videos that no neighbour stands for.

    Where all are distinct, or where a modality is not pruned, encoding is left to the next step, unless its memory is
    bounded.
    """
    if encoded is not None or inputs.get("mm_encoder_outputs"):
        raise InputError("The images came encoded, so nothing can be left out: pass pixel_values, or leave skip out.")
    shown = [modality for modality in find_modalities(family, inputs) if modality in SKIPPED]
    if not shown or not isinstance(family, PatchEncoder) or settings.skip is None:
        return EncodedPart(None)
    started = time.perf_counter()
    with explain_refusal(model):
        chosen = {m: choose_units(model, family, inputs, m, settings.skip) for m in shown if m in settings.modalities}
        left_out = [~own.cpu() for masks in chosen.values() for own in masks]
    seconds = time.perf_counter() - started
    limit = find_limit(model, family, settings)
    if limit is None:
        chosen = {m: masks for m, masks in chosen.items() if not all(bool(own.all()) for own in masks)}
    else:
        chosen = {m: chosen.get(m) or family.all_units(model, inputs, m) for m in shown}
    outputs = {m: _encode_units(model, family, inputs, m, masks, limit) for m, masks in chosen.items()}
    marks = {m: [{"encoded_share": int(own.sum()) / len(own)} for own in masks] for m, masks in chosen.items()}
    return EncodedPart(Encoded(outputs), marks, (_describe(left_out, settings.skip),), seconds)


def _describe(left_out: Sequence[Tensor], skip: float) -> str:
    """How much was not encoded, in a sentence."""
    count, total = sum(int(own.sum()) for own in left_out), sum(map(len, left_out))
    if not count:
        return f"All parts of the images were encoded: no pixels repeat a neighbour's by skip={skip}."
    return f"Of {total} parts of the images {count} were not encoded: their pixels repeat a neighbour's."


def _encode_units(
    model: Any, family: PatchEncoder, inputs: Mapping[str, Any], modality: str, chosen: Sequence[Tensor],
    limit: int | None,
) -> Any:  # fmt: skip
    """The encoder's output, with NaN for the tokens of all units that are not chosen."""
    gather_shards(model)
    with explain_refusal(model):
        output = drop_hidden_states(family.encode_split(model, inputs, modality, chosen, limit))
    parts = zip(family.features(output, modality), chosen, strict=True)
    if any(bool(tokens.detach()[own.to(tokens.device)].isnan().any()) for tokens, own in parts):
        raise InputError(NAN)
    return output


def choose_units(
    model: Any, family: PatchEncoder, inputs: Mapping[str, Any], modality: str, skip: float
) -> list[Tensor]:
    """For every image or video (n,) bool: which of its merge units stand for themselves, in the order of its tokens."""
    grids, side = family.read_grids(inputs, modality), family.vision_tower(model).spatial_merge_size
    name, sizes = family.traits.main_inputs[modality], grids.prod(-1).tolist()
    if len(inputs[name]) != sum(sizes):
        raise InputError(
            f"{name} holds {len(inputs[name])} patches and {modality}_grid_thw stands for {sum(sizes)}: pass what the "
            "model's processor returned."
        )
    masks = []
    for patches, (t, h, w) in zip(inputs[name].detach().split(sizes), grids.tolist(), strict=True):
        units = patches.reshape(t * h * w // side**2, side**2, CHANNELS, -1)
        firsts = find_representatives(units, (t, h // side, w // side), skip)
        masks.append(firsts == torch.arange(len(units), device=firsts.device))
    return masks
