"""What a call under an in-decoder method brings: its images, and the text tokens whose attention rates their tokens."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.in_decoder import DecoderMethod
from foveate.models import Family
from foveate.models.cache import cache_of
from foveate.models.placeholders import match_placeholders
from foveate.models.sequence import find_last_columns
from foveate.models.visual_input import Grid, VisualInput, make_visual_input, tile_frames
from foveate.pipeline.inputs import check_inputs
from foveate.pipeline.question import read_template, warn_once


@dataclass(frozen=True, eq=False)
class Prompt:
    """`ids` and `mask` (b, L), `visual` (b, L) true for visual tokens; the images' `features` (n, d) and grids."""

    ids: Tensor
    mask: Tensor
    visual: Tensor
    features: Sequence[Tensor]
    grids: Sequence[Grid | None]


@dataclass(frozen=True, eq=False)
class RatedImage:
    """One image, and the columns (r,) of the text tokens that rate its tokens."""

    item: VisualInput
    raters: Tensor


def make_prompt(family: Family, config: Any, inputs: Mapping[str, Any], encoded: Any) -> Prompt:
    """The prompt of a call, whose images were encoded.

    Raises `InputError` where the mask hides placeholders.
    """
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    mask = torch.ones_like(ids) if mask is None else mask.to(ids.device)
    features = family.features(encoded)
    prompt = Prompt(
        ids, mask, family.placeholders(config, inputs), features, _read_grids(family, config, inputs, features)
    )
    if bool((prompt.visual & (mask == 0)).any()):
        raise InputError("attention_mask hides image placeholders: leave them visible, keep decides what stays.")
    return prompt


def _read_grids(
    family: Family, config: Any, inputs: Mapping[str, Any], features: Sequence[Tensor]
) -> tuple[Grid | None, ...]:
    """The images' grids, None where the call lacks them: `generate` and `prune_inputs` may leave them out."""
    try:
        grids = family.grids(config, inputs, features)
    except KeyError:
        grids = []
    if len(grids) != len(features):
        return (None,) * len(features)
    pairs = zip(grids, features, strict=True)
    return tuple(grid if grid is not None and math.prod(grid) == len(f) else None for grid, f in pairs)


def list_images(prompt: Prompt) -> list[VisualInput]:
    """The images of a prompt, before anything is dropped.

    Raises `InputError` if placeholders and images do not match.
    """
    spans = match_placeholders(prompt.visual, [len(f) for f in prompt.features])
    items = []
    for number, (span, feature, grid) in enumerate(zip(spans, prompt.features, prompt.grids, strict=True)):
        item = make_visual_input("image", span.row, span.columns, int(span.columns[0]), feature.detach())
        items.append(replace(item, index=number, grid=grid, tiles=() if grid is None else tile_frames(grid)))
    return items


def rate_images(
    model: Any, family: Family, method: DecoderMethod, prompt: Prompt, answer: int
) -> tuple[list[RatedImage], list[str]]:
    """The images of a prompt that ends `answer` tokens before the call does; notes on those without a question.

    Raises `InputError` if placeholders and images do not match, or no text follows an image.
    """
    real = prompt.mask.clone()
    real[:, max(real.shape[1] - answer, 0) :] = 0
    last: list[int] = find_last_columns(real).tolist()
    images, notes = [], []
    for number, (item, feature) in enumerate(zip(list_images(prompt), prompt.features, strict=True)):
        end = last[item.row]
        if end <= int(item.columns[-1]):
            raise InputError(
                f"No text follows image {number}, and {method.name} reads its attention to see which tokens matter: "
                "put the question behind the image."
            )
        columns = [end]
        if method.reads == "question":
            question_columns, doubt = _find_question(model, family, prompt, item, end)
            columns = question_columns or columns
            notes += [doubt] if doubt else []
            if not question_columns:
                notes.append(f"No question follows image {number}: the prompt's last token alone rated its tokens.")
        raters = torch.tensor(columns, device=prompt.ids.device)
        if method.reads == "question":
            question = model.get_input_embeddings()(prompt.ids[item.row, raters]).detach()
            raters = raters[method.raters(item.embeds, question.to(feature)).to(raters.device)]
        images.append(RatedImage(item.without_embeds(), raters))
    notes = list(dict.fromkeys(notes))
    warn_once(model, notes)
    return images, notes


def count_answer_tokens(logits_to_keep: Any) -> int:
    """How many tokens at the end of a call are no prompt.

    Where the last n logits are wanted, the n - 1 tokens behind the first of them are an answer that is being scored, or
    guesses of assisted decoding: they did not exist when the prompt was read, and have no say in what stays.
    """
    if isinstance(logits_to_keep, Tensor):
        raise InputError("logits_to_keep is a tensor, which leaves open where the prompt ends: give an int.")
    return max(int(logits_to_keep) - 1, 0)


def _find_question(model: Any, family: Family, prompt: Prompt, item: VisualInput, end: int) -> tuple[list[int], str]:
    """The columns of the question's tokens that can see the image, and what makes them uncertain."""
    template = read_template(model, family)
    first = int(prompt.visual[item.row].nonzero()[0])
    hidden = (prompt.mask[item.row] == 0).tolist()
    dialog = template.split(prompt.ids[item.row].tolist(), first, hidden)
    columns = dialog.find_question()
    return [column for column in columns if int(item.columns[-1]) < column <= end], dialog.doubt


def check_call(model: Any, family: Family, inputs: dict[str, Any], name: str) -> None:
    """Raise `InputError` for a call with images that cannot be pruned layer by layer."""
    cache = cache_of(inputs)
    if cache is not None and cache.is_compileable:
        raise InputError(
            f"{name} leaves each layer with a cache of its own length, and a static cache has one for all: "
            "use the dynamic one, or a method that prunes the input."
        )
    check_images(inputs, name)
    check_inputs(model, family, inputs)
    if inputs.get("labels") is not None:
        raise InputError(
            f"{name} reads the attention of the prompt's last token, and with labels that is the answer's: "
            "train with a method that prunes the input, or leave the labels out."
        )


def check_images(inputs: Mapping[str, Any], name: str) -> None:
    """Raise `InputError` for a call with videos."""
    ready = inputs.get("mm_encoder_outputs") or {}
    if inputs.get("pixel_values_videos") is not None or ready.get("video") is not None:
        raise InputError(
            f"{name} prunes images, not videos: pass the frames as images, or use a method that prunes the input."
        )
