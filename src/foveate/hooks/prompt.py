"""What a call brings along: its pictures, and the text tokens whose attention tells which of their tokens stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.in_decoder import DecoderMethod
from foveate.models import Family
from foveate.models.item import Span, match_places
from foveate.pipeline.prune import stop_ids
from foveate.pipeline.question import find_question


@dataclass(frozen=True, eq=False)
class Prompt:
    """`ids` and `mask` (b, L), `visual` (b, L) true for visual tokens; the pictures' `features` (n, d)."""

    ids: Tensor
    mask: Tensor
    visual: Tensor
    features: Sequence[Tensor]


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture: its row, its places (n,) there, and the places (r,) of the text tokens that rate it."""

    row: int
    places: Tensor
    raters: Tensor


def pictures_of(
    model: Any, family: Family, method: DecoderMethod, prompt: Prompt, answer: int
) -> tuple[list[Picture], list[str]]:
    """The pictures of a prompt that ends `answer` tokens before the call does; notes on those without a question.

    Raises `InputError` if placeholders and pictures do not match, or no text follows a picture.
    """
    spans = match_places(prompt.visual, [len(f) for f in prompt.features])
    last = _last_places(prompt.mask, prompt.mask.shape[1] - answer)
    pictures, notes = [], []
    for number, (span, feature) in enumerate(zip(spans, prompt.features, strict=True)):
        end = last[span.row]
        if end <= int(span.places[-1]):
            raise InputError(
                f"No text follows picture {number}, and {method.name} asks it which tokens matter: "
                "put the question behind the picture."
            )
        asked = [end]
        if method.reads == "question":
            asked = _question(model, family, prompt, span, end) or asked
            if asked == [end]:
                notes.append(f"No question follows picture {number}: the prompt's last token was asked alone.")
        raters = torch.tensor(asked, device=prompt.ids.device)
        if method.reads == "question":
            words = model.get_input_embeddings()(prompt.ids[span.row, raters]).detach()
            raters = raters[method.raters(feature.detach(), words.to(feature)).to(raters.device)]
        pictures.append(Picture(span.row, span.places, raters))
    return pictures, notes


def answer_length(logits_to_keep: Any) -> int:
    """How many tokens at the end of a call are no prompt.

    Where the last n logits are wanted, the n - 1 tokens behind the first of them are an answer that is being scored, or
    guesses of assisted decoding: they did not exist when the prompt was read, and have no say in what stays.
    """
    if isinstance(logits_to_keep, Tensor):
        raise InputError("logits_to_keep is a tensor, which leaves open where the prompt ends: give an int.")
    return max(int(logits_to_keep) - 1, 0)


def _last_places(mask: Tensor, end: int) -> list[int]:
    """Each row's last token before `end`."""
    places = torch.arange(mask.shape[1], device=mask.device)
    found: list[int] = places.where((mask != 0) & (places < end), -1).amax(1).tolist()
    return found


def _question(model: Any, family: Family, prompt: Prompt, span: Span, end: int) -> list[int]:
    """The places of the question's tokens that can see the picture."""
    template = family.template(model.config, stop_ids(model))
    first = int(prompt.visual[span.row].nonzero()[0])
    hidden = (prompt.mask[span.row] == 0).tolist()
    found = find_question(prompt.ids[span.row].tolist(), first, template, hidden)
    return [place for place in found if int(span.places[-1]) < place <= end]
