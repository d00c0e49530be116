"""What `foveate doctor` checks beside the laws: the prompts that a model's own processor and chat template make.

Real checkpoints of one family differ there more than in their weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from foveate.conformance.laws import LawResult, run_law
from foveate.conformance.reference import logits_at, relative_error, run_reference
from foveate.errors import FoveateError
from foveate.models import family_of
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.question import find_question, read_template
from foveate.runtime.conversation import make_inputs
from foveate.runtime.warnings import collect_warnings
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene

if TYPE_CHECKING:
    from foveate.models import Family
    from foveate.pipeline.report import PrunedInputs
    from foveate.runtime.loaded import LoadedModel

QUESTION = "What color is the star?"
SIZES = ((336, 224), (1000, 400))  # pixels; the second is wide enough for several tiles
KEEP = 0.5


def check_prompts(loaded: LoadedModel) -> Iterator[LawResult]:
    """Check the prompts for drawn images of `SIZES`: what is read from them, and the law of pruning on them.

    Args:
        loaded: A model with its processor.

    Yields:
        Two results for each image: what its tokens, tiles and question are, and the error of the pruned logits.
    """
    for number, (width, height) in enumerate(SIZES):
        image = draw_scene(sample_scene(0, number, "scene")).resize((width, height))
        yield from _check_prompt(loaded, image, f"own processor, {width} x {height} pixels")


def _check_prompt(loaded: LoadedModel, image: Image.Image, name: str) -> Iterator[LawResult]:
    model, family = loaded.model, family_of(loaded.model)
    try:
        with torch.no_grad(), collect_warnings() as notes:
            inputs = make_inputs(loaded, [image], [QUESTION])
            short = prune_inputs(model, inputs, keep=KEEP)
    except FoveateError as error:
        yield LawResult(name, "error", str(error))
        return
    yield _describe_prompt(loaded, inputs, short, name, notes)
    yield run_law(f"{name}: pruned = full with dropped tokens masked", partial(_compare, inputs, short), model, family)


def _describe_prompt(
    loaded: LoadedModel, inputs: Any, short: PrunedInputs, name: str, notes: Sequence[str]
) -> LawResult:
    """What was read from the prompt. The words of the question must be those that the user wrote, and no others."""
    item = short.report.items[0]
    words = loaded.processor.tokenizer.decode(_read_question(loaded.model, inputs, short)).strip()
    grid = " x ".join(map(str, item.grid)) if item.grid else "no grid"
    tiles = f", {len(item.tiles)} tiles" if len(item.tiles) > 1 else ""
    figure = " ".join([f"{item.total} visual tokens ({grid}{tiles}), question read as {words!r}", *notes])
    is_right = "".join(words.split()).casefold() == "".join(QUESTION.split()).casefold()
    return LawResult(name, "holds" if is_right else "violated", figure)


def _read_question(model: Any, inputs: Any, short: PrunedInputs) -> list[int]:
    """The ids of the question's tokens."""
    ids, item = inputs["input_ids"][0].tolist(), short.report.items[0]
    first, last = int(item.columns[0]), int(item.columns[-1])
    ignored = [first <= column <= last for column in range(len(ids))]
    columns = find_question(ids, first, read_template(model, family_of(model)), ignored)
    return [ids[column] for column in columns]


def _compare(inputs: Any, short: PrunedInputs, model: Any, family: Family) -> float:
    whole = {**inputs, "attention_mask": inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))}
    reference = run_reference(model, family, whole, short)
    return relative_error(logits_at(model(**short).logits, short["attention_mask"].bool()), reference)
