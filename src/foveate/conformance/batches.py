"""Tiny random models, and random batches for them or for a user's model."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.conformance.registry import to_tiny_family
from foveate.models import Family
from foveate.pipeline.question import LEARNED, NO_SHARED_SPACE, WARNED

Row = tuple[int | Sequence[str], int]
"""What a row shows, a number of images or modalities in order, and the number of its text tokens after the last one."""


def describe_random_prompts() -> dict[str, Any]:
    """Attributes of a model whose prompts are random: all their text is the question, and no warning is of use."""
    return {LEARNED: {}, WARNED: {NO_SHARED_SPACE}}


def make_tiny_model(family: Family, seed: int = 0, **changes: Any) -> Any:
    """A tiny random model of the family in evaluation mode; `changes` to its configuration as keyword arguments."""
    from transformers import AutoModelForImageTextToText

    tiny = to_tiny_family(family)
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(tiny.make_config(**changes)).eval()
    with torch.no_grad():
        tiny.randomize_zeros(model)
    vars(model).update(describe_random_prompts())
    return model


def make_batch(model: Any, family: Family, rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """A padded batch of prompts with random images (videos, audios) and random text tokens.

    Args:
        model: A model of the family.
        family: Its adapter.
        rows: For each row what it shows and the number of text tokens: `(2, 5)` for two images,
            `(("image", "video"), 5)` for an image and a video. A number stands for videos in a family without images.
        seed: Of the random generator.

    Returns:
        The model's inputs, with `attention_mask`.
    """
    tiny, config = to_tiny_family(family), model.config
    rng = torch.Generator().manual_seed(seed)
    shown = [(main_modality(family),) * show if isinstance(show, int) else tuple(show) for show, _ in rows]
    inputs: dict[str, Any] = {}
    parts: dict[str, Any] = {}  # of the prompt, by modality
    for modality in family.traits.modalities:
        counts = [show.count(modality) for show in shown]
        if sum(counts):
            inputs |= _to_model(model, tiny.make_inputs(config, modality, counts, rng))
            parts[modality] = iter(_make_prompt_parts(model, family, inputs, modality))
    vocabulary = min(family.template(config, []).controls_from or config.get_text_config().vocab_size, 30000)
    prompts = []
    for show, (_, count) in zip(shown, rows, strict=True):
        text = torch.randint(10, vocabulary, (len(show) + count + 1,), generator=rng).tolist()
        ids = [text.pop()]
        for modality in show:
            ids += [*next(parts[modality]), text.pop()]
        prompts.append(ids + text)
    for name, lists in (("input_ids", prompts), ("attention_mask", [[1] * len(ids) for ids in prompts])):
        inputs[name] = _pad(lists, left=tiny.pads_left).to(model.device)
    for name in ("mm_token_type_ids", "token_type_ids"):
        if name in inspect.signature(model.forward).parameters:
            inputs[name] = family.token_types(config, inputs)
    return {**inputs, **tiny.prompt_inputs(config, inputs)}


def take_row(model: Any, family: Family, inputs: dict[str, Any], row: int, items: range) -> dict[str, Any]:
    """Row `row` of a batch without its padding; it shows number `items` of all images."""
    real = inputs["attention_mask"][row].bool()
    shape = inputs["attention_mask"].shape
    tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    alone = {name: value[row : row + 1, real] for name, value in tensors.items() if value.shape[:2] == shape}
    own = to_tiny_family(family).select_inputs(model.config, inputs, main_modality(family), row, items)
    return {**alone, **own}


def main_modality(family: Family) -> str:
    """What a plain number of a `Row` counts: images, or the first modality of a family without them."""
    return "image" if "image" in family.traits.modalities else family.traits.modalities[0]


def _to_model(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors on the model's device, floats of its dtype; other values as they are."""
    return {
        name: value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)
        if isinstance(value, Tensor)
        else value
        for name, value in inputs.items()
    }


@torch.no_grad()
def _make_prompt_parts(model: Any, family: Family, inputs: dict[str, Any], modality: str) -> list[list[int]]:
    """The ids of every image (video, audio); only the encoder knows the number of its tokens."""
    tiny = to_tiny_family(family)
    features = family.features(tiny.encode_inputs(model, inputs, modality), modality)
    grids = family.grids(model.config, inputs, features, modality)
    sizes = [len(tokens) for tokens in features]
    return [tiny.prompt_ids(model.config, modality, *one) for one in zip(sizes, grids, strict=True)]


def _pad(lists: Sequence[list[int]], *, left: bool) -> Tensor:
    """(b, L): the lists filled up with zeros."""
    width = max(map(len, lists))
    pads = [[0] * (width - len(ids)) for ids in lists]
    return torch.tensor([pad + ids if left else ids + pad for pad, ids in zip(pads, lists, strict=True)])
