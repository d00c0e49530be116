"""Step 3, before the budget: a policy chooses a share for each image and question, or its age does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method import Method
from foveate.method.tokens import VisualTokens
from foveate.models import family_of
from foveate.models.inputs import rename_inputs
from foveate.models.visual_input import VisualInput
from foveate.models.wrappers import unwrap
from foveate.pipeline.encode import Encoded
from foveate.pipeline.glance import glance
from foveate.pipeline.locate import locate_items
from foveate.pipeline.select import read_tokens, subset_tokens
from foveate.pipeline.settings import PruneSettings
from foveate.policy.difficulty import measure_scores, read_topic
from foveate.policy.shipped import find_shipped
from foveate.policy.signature import sign_model


def find_policy(model: Any, settings: PruneSettings) -> PruneSettings:
    """The settings with the policy that "auto" stands for; others as they are.

    Raises:
        InputError: No policy comes with the model, or the policy is for another model, method or positions.
    """
    if settings.policy is None:
        return settings
    policy = find_shipped(model) if settings.policy == "auto" else settings.policy
    if not policy.model.fits(sign_model(model)):
        raise InputError(
            f"The policy was calibrated on another model ({policy.model.model_type}) or other weights: "
            "make one for this model with foveate calibrate."
        )
    for name, own, wanted in (
        ("method", settings.method.spec, policy.method),
        ("positions", settings.positions, policy.positions),
    ):
        if own != wanted:
            raise InputError(
                f"The policy was calibrated with {name}={wanted!r}, not {own!r}: use that, or calibrate again."
            )
    return replace(settings, policy=policy)


def follow_policy(
    items: Sequence[VisualInput], questions: Mapping[int, Tensor], settings: PruneSettings
) -> tuple[list[VisualInput], list[str]]:
    """The items with the share that the policy keeps of each, or their age; what the policy was not calibrated on.

    Raises:
        InputError: A video or an audio is to be pruned: policies are calibrated on images. Or the age of images is not
            known.
    """
    policy = settings.policy
    if policy is None or isinstance(policy, str):
        return _follow_age(items, settings), []
    pruned = [item for item in items if item.modality in settings.modalities]
    for item in pruned:
        if item.modality != "image":
            raise InputError(
                f'A policy chooses budgets for images, not for {item.modality}: add modalities=("image",).'
            )
    decided: list[VisualInput] = []
    notes: list[str] = []
    for item in items:
        if item.modality in settings.modalities and bool(item.selectable.any()):
            tokens = read_selectable(item, questions, settings.method)
            decision = policy.decide(measure_scores(tokens), read_topic(tokens).tolist())
            item = replace(item, keep=decision.keep, reason=decision.reason, retry_below=decision.retry_below)
            notes += decision.notes
        decided.append(item)
    if any(item.is_part for item in pruned) or len({item.row for item in pruned}) < len(pruned):
        notes.append("The policy was calibrated on one image a prompt: its promise does not cover several.")
    return decided, list(dict.fromkeys(notes))


def _follow_age(items: Sequence[VisualInput], settings: PruneSettings) -> list[VisualInput]:
    """The items with the shares of `Recency`: of what is pruned in a row, the last in the prompt is the newest."""
    shared, recency = list(items), settings.recency
    if recency is None:
        return shared
    pruned = [n for n, item in enumerate(items) if item.modality in settings.modalities]
    if any(items[n].is_part for n in pruned):
        raise InputError(
            "Recency gives each image a share by its age, and nothing in these inputs tells which tiles are one image: "
            "give keep a number."
        )
    for row in {items[n].row for n in pruned}:
        own = sorted((n for n in pruned if items[n].row == row), key=lambda n: items[n].first)
        for n, share in zip(own, recency.shares(len(own)), strict=True):
            shared[n] = replace(items[n], keep=share)
    return shared


@torch.no_grad()
def measure_difficulty(
    model: Any, inputs: Mapping[str, Any], method: Method, encoded: Encoded
) -> list[tuple[dict[str, float], tuple[float, ...]]]:
    """The scores and the direction of the question that a policy reads, of each image of a batch.

    Args:
        model: A vision-language model of transformers.
        inputs: A processor's output.
        method: The method; with a first look the attention is measured too.
        encoded: The images from `foveate.encode`.
    """
    model, settings = unwrap(model), PruneSettings(0.5, method)
    family = family_of(model)
    inputs = rename_inputs(family, inputs)
    items, mask, questions, _ = locate_items(model, family, inputs, encoded)
    items = glance(model, family, inputs, encoded, items, mask, questions, settings)
    tokens = [read_selectable(item, questions, method) for item in items]
    return [(measure_scores(each), tuple(read_topic(each).tolist())) for each in tokens]


def read_selectable(item: VisualInput, questions: Mapping[int, Tensor], method: Method) -> VisualTokens:
    """What a policy reads of an item: its tokens without the protected ones, and the question of its row."""
    return subset_tokens(read_tokens(item, questions, method), item, item.selectable.nonzero().squeeze(1))
