"""Labels under pruning: what marks the place of a visual token is never one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from foveate.models import Family
from foveate.models.generation import has_own_decoder
from foveate.models.sequence import IGNORED_LABEL
from foveate.pipeline.settings import PruneSettings


def ignore_placeholders(
    model: Any, family: Family, inputs: Mapping[str, Any], settings: PruneSettings
) -> Mapping[str, Any]:
    """The inputs, with labels that leave placeholders out; the same object where there is nothing to leave out.

    With a fixed `keep=1.0` nothing is pruned, and the labels stay as they are.
    """
    ids, labels = inputs.get("input_ids"), inputs.get("labels")
    if not isinstance(labels, Tensor) or not isinstance(ids, Tensor) or labels.shape != ids.shape:
        return inputs
    if settings.keeps_all or not family.traits.in_sequence or has_own_decoder(model):
        return inputs
    places = torch.zeros_like(ids, dtype=torch.bool)
    for modality in family.traits.modalities:
        places |= family.placeholders(model.config, inputs, modality)
    labelled = places.to(labels.device) & (labels != IGNORED_LABEL)
    return {**inputs, "labels": labels.masked_fill(labelled, IGNORED_LABEL)} if bool(labelled.any()) else inputs
