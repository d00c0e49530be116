"""What a pruned model must agree with: the stock model on the tokens that were kept."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.conformance.registry import to_tiny_family
from foveate.models import Family
from foveate.models.batch import mark_staying
from foveate.models.capture import capture_arguments
from foveate.models.inputs import find_modalities
from foveate.models.visual_input import VisualInput
from foveate.pipeline.report import PrunedInputs


def run_reference(model: Any, family: Family, inputs: dict[str, Any], short: PrunedInputs) -> Tensor:
    """Logits of the full model at the places of `short`: its own run with the dropped tokens masked, positions kept.

    Where layers carry a state along the sequence, a masked token still moves it. There the stock language model gets
    the embeddings of the tokens that stay, taken from the full model's run.
    """
    items = find_kept_items(model, family, inputs, short)
    stays, tiny = mark_staying(inputs["attention_mask"], items), to_tiny_family(family)
    if tiny.is_recurrent(model.config):
        return _run_decoder(model, family, inputs, short, stays)
    return logits_at(model(**tiny.mask_dropped(model, inputs, items)).logits, stays)


def find_kept_items(model: Any, family: Family, inputs: dict[str, Any], short: PrunedInputs) -> list[VisualInput]:
    """The images, videos and audios of these inputs, encoded again, with what `short` kept of each."""
    outputs = {modality: family.encode(model, inputs, modality) for modality in find_modalities(family, inputs)}
    items = family.items(model, inputs, outputs, ())
    return [replace(item, kept=own.kept) for item, own in zip(items, short.report.items, strict=True)]


def mark_kept(model: Any, family: Family, inputs: dict[str, Any], short: PrunedInputs) -> Tensor:
    """(b, L): true for the tokens of the full sequence that `short` kept."""
    return mark_staying(inputs["attention_mask"], find_kept_items(model, family, inputs, short))


def go_on(short: PrunedInputs, token: Tensor, step: int) -> dict[str, Any]:
    """The inputs of a call with the next token (b, 1), `step` tokens behind a pruned prompt that is in the cache."""
    mask, new = short["attention_mask"], {"input_ids": token}
    positions = short.get("position_ids")
    if positions is not None:
        axes = positions[-3:] if positions.ndim == 3 else positions[None]  # without the row that counts tokens
        last = axes.amax((0, -1)).expand(positions.shape[:-1])
        new["position_ids"] = last[..., None] + 1 + step
    new |= {name: short[name][:, -1:] for name in ("cross_attention_mask", "image_attention_mask") if name in short}
    return {**new, "attention_mask": torch.cat([mask, mask.new_ones(len(mask), 1 + step)], dim=1)}


def logits_at(logits: Tensor, places: Tensor) -> Tensor:
    """The logits at these places (b, L) of the prompt; all of them where a separate decoder writes the answer."""
    return logits[places] if logits.shape[:2] == places.shape else logits


def relative_error(logits: Tensor, reference: Tensor) -> float:
    """The largest difference, divided by the size of the reference's logits where that is above 1.

    Rounding errors grow with the numbers that are rounded, so the limit must too. With logits of size 1 or less the
    difference is taken as it is. Logits of another shape are infinitely wrong, and so is NaN.
    """
    if logits.shape != reference.shape:
        return float("inf")
    error = (logits.double() - reference.double()).abs().nan_to_num(nan=float("inf")).max()
    return float(error) / max(1.0, logit_size(reference))


def logit_size(logits: Tensor) -> float:
    """Root mean square of the logits, without those that a model puts at its lowest number to rule ids out."""
    values = logits[logits.abs() < torch.finfo(logits.dtype).max / 2]
    return float(values.double().square().mean().sqrt()) if len(values) else 0.0


def _run_decoder(model: Any, family: Family, inputs: Mapping[str, Any], short: PrunedInputs, stays: Tensor) -> Tensor:
    """Logits (tokens that stay, vocabulary) of the stock language model on their embeddings, row by row."""
    decoder = family.decoder(model)
    with capture_arguments(decoder) as calls:
        model(**inputs)
    embeds = calls[0]["inputs_embeds"]
    own = ("inputs_embeds", "attention_mask", "position_ids", "visual_pos_masks")
    more = {k: v for k, v in calls[0].items() if isinstance(v, Tensor) and v.shape[:2] == stays.shape and k not in own}
    head = model.get_output_embeddings() or model.language_model.get_output_embeddings()
    logits = []
    for row, positions in enumerate(short["position_ids"].unbind(-2)):
        alone = positions[..., short["attention_mask"][row].bool()].unsqueeze(-2)
        settings = {name: value[row, stays[row]][None] for name, value in more.items()}
        hidden = decoder(inputs_embeds=embeds[row, stays[row]][None], position_ids=alone, **settings).last_hidden_state
        logits.append(head(hidden)[0])
    return torch.cat(logits)
