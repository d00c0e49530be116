"""What stands in the prompt for a pruned image or clip, and the prompt as if nothing had been dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vllm.multimodal.processing import PromptReplacement, PromptUpdateDetails

from foveate.errors import ModelError
from foveate.integrations.vllm.settings import PLAN_FIELDS, ImagePlan


def shorten_update(update: Any, out_mm_kwargs: Any, *, is_profile: bool = False) -> Any:
    """The stock replacement of a placeholder, cut down to the number of kept tokens.

    With `is_profile` vLLM counts the rows of the largest image, to set memory aside: most of them are needed where
    almost all tokens are kept, and the words with them.

    Where words stand among a clip's tokens, all of them stay and are embedded by the model like tokens: which of them
    comes behind how many tokens is not known yet.
    """
    modality = update.modality

    def replacement(index: int) -> Any:
        stock = update.content(index)
        plan = ImagePlan.unpack(out_mm_kwargs[modality][index][PLAN_FIELDS[modality]].data)
        whole = getattr(stock, "full", stock)
        if len(whole) != plan.total:
            raise ModelError(f"vLLM expects {len(whole)} tokens of a {modality}, foveate {plan.total}: report this.")
        if plan.is_whole and not is_profile:
            return stock
        dropped = set(plan.visual[plan.kept - len(plan.words) :])
        return PromptUpdateDetails.from_seq([token for place, token in enumerate(whole) if place not in dropped])

    return PromptReplacement(modality=modality, target=update.target, replacement=replacement)


@dataclass(frozen=True)
class WholePrompt:
    """A prompt as if nothing had been dropped.

    `columns` has for each token of the pruned prompt its column in this one; all that is kept of a pruned image or clip
    is in the column of its first token. `is_compact` says whether the pruned prompt is numbered without gaps.
    """

    tokens: list[int]
    features: list[Any]
    columns: list[int]
    is_compact: bool


def restore_prompt(input_tokens: list[int], mm_features: Sequence[Any]) -> WholePrompt:
    """The unpruned prompt, with vLLM's features at their places in it."""
    column, tokens, features, columns = 0, list[int](), [], list[int]()  # column: of the pruned prompt
    is_compact = False
    for feature in sorted(mm_features, key=lambda f: f.mm_position.offset):
        span, plan = feature.mm_position, _read_plan(feature)
        columns += range(len(tokens), len(tokens) + span.offset - column)
        tokens += input_tokens[column : span.offset]
        column = span.offset + span.length
        own, first = input_tokens[span.offset : column], len(tokens)
        is_compact |= plan is not None and plan.positions == "compact"
        if plan is None or plan.is_whole:
            columns += range(first, first + span.length)
        else:
            columns += [first] * span.length
            own = restore_tokens(own, plan)
        tokens += own
        features.append(replace(feature, mm_position=replace(span, offset=first, length=len(own))))
    columns += range(len(tokens), len(tokens) + len(input_tokens) - column)
    return WholePrompt(tokens + input_tokens[column:], features, columns, is_compact)


def _read_plan(feature: Any) -> ImagePlan | None:
    """None for a clip of a model whose clips stay whole."""
    packed = feature.data.get(PLAN_FIELDS[feature.modality])
    return None if packed is None else ImagePlan.unpack(packed.data)


def restore_tokens(shortened: list[int], plan: ImagePlan) -> list[int]:
    """All tokens of an image or clip, from those that `shorten_update` left of it."""
    visual = plan.visual
    tokens = [shortened[visual[0]]] * plan.total  # before its first visual token nothing is missing
    for place, token in plan.words:
        tokens[place] = token
    return tokens
