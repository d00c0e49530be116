"""Step 2: where the visual tokens of each image lie in the prompt, and which tokens are the question."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from foveate.models import Family
from foveate.models.visual_input import VisualInput, mark_absent
from foveate.pipeline.encode import Encoded, Marks
from foveate.pipeline.inputs import explain_refusal
from foveate.pipeline.question import locate_questions
from foveate.pipeline.shorten import make_mask, protect_last_tokens


def locate_items(
    model: Any, family: Family, inputs: Mapping[str, Any], encoded: Encoded, marks: Marks | None = None, *,
    question_last: bool = False,
) -> tuple[list[VisualInput], Tensor, dict[int, Tensor], list[str]]:  # fmt: skip
    """The items of the batch, the mask (b, L) of its prompts, the question of each row, and notes on the questions.

    `marks` says what was encoded of each image and video; without them all was. With `question_last` words before the
    end of the last image only label images.
    """
    with explain_refusal(model):
        items = family.items(model, inputs, encoded.outputs, encoded.extras)
        items = [_mark(item, marks or {}) for item in items]
    mask = make_mask(inputs, items)
    items = protect_last_tokens(items, mask)
    questions, notes = locate_questions(model, family, inputs, mask, items, is_last=question_last)
    return items, mask, dict(questions), list(notes)


def _mark(item: VisualInput, marks: Marks) -> VisualInput:
    """The item before selection: all tokens that were encoded are kept, the others are absent."""
    if not marks.get(item.modality):
        return item
    return replace(mark_absent(item), **marks[item.modality][item.index])
