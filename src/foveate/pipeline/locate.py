"""Step 2: where the visual tokens of each image lie in the prompt, and which tokens are the question."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from foveate.models import Family
from foveate.models.visual_input import VisualInput
from foveate.pipeline.encode import Encoded
from foveate.pipeline.inputs import explain_refusal
from foveate.pipeline.question import locate_questions
from foveate.pipeline.shorten import make_mask, protect_last_tokens


def locate_items(
    model: Any, family: Family, inputs: Mapping[str, Any], encoded: Encoded
) -> tuple[list[VisualInput], Tensor, dict[int, Tensor], list[str]]:
    """The items of the batch, the mask (b, L) of its prompts, the question of each row, and notes on the questions."""
    with explain_refusal(model):
        items = family.items(model, inputs, encoded.outputs, encoded.extras)
    mask = make_mask(inputs, items)
    items = protect_last_tokens(items, mask)
    questions, notes = locate_questions(model, family, inputs, mask, items)
    return list(items), mask, dict(questions), list(notes)
