"""Step 2: which tokens of a prompt are the question, read from the ids alone.

A prompt is cut into turns. A turn opens with a control token and the role that follows it (`<|im_start|>user\\n`), or
with a role spelled in ordinary tokens (`USER:`). The turn that holds the image shows which opening is the user's. The
question is the last turn with that opening that has words, so each turn of a conversation has its own question.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foveate.models import Family
from foveate.models.generation import has_own_decoder, read_stop_ids
from foveate.models.sequence import IGNORED_LABEL
from foveate.models.template import Template
from foveate.models.visual_input import VisualInput

ROLE_TOKENS = 2  # the role and the newline after a control token that opens a turn
LEARNED = "foveate_template"  # the attribute of a model that `foveate.learn_template` sets


def read_template(model: Any, family: Family) -> Template:
    """The model's template: as `foveate.learn_template` read it, else as the configuration describes it."""
    config = model.config
    learned = getattr(model, LEARNED, None)
    if learned is not None:
        config = copy.copy(config)  # the user's own configuration stays as it is
        config.foveate_template = learned
    return family.template(config, read_stop_ids(config, getattr(model, "generation_config", None)))


def locate_questions(
    model: Any, family: Family, inputs: Mapping[str, Any], mask: Tensor, items: Sequence[VisualInput]
) -> tuple[dict[int, Tensor], list[str]]:
    """The embeddings (m, d) of the question of every row that shows something, and notes on rows that have none.

    m is 0 for a row without a question, and where visual tokens share no space with words.
    """
    ids, template = inputs["input_ids"], read_template(model, family)
    ignored = _mark_ignored(model, inputs, mask, items)
    first: dict[int, VisualInput] = {}
    for item in sorted(items, key=lambda item: (item.row, item.first)):
        first.setdefault(item.row, item)
    columns = {
        row: find_question(ids[row].tolist(), item.first, template, ignored[row].tolist())
        for row, item in first.items()
    }
    notes = [
        f"Row {row} has no question: its tokens were selected for diversity alone."
        for row, own in columns.items()
        if not own
    ]
    if not family.traits.shared_space and any(columns.values()):
        notes.append("This model's tokens share no space with words: they were selected for diversity alone.")
    if not family.traits.shared_space:
        return {row: item.embeds.detach()[:0] for row, item in first.items()}, notes
    table = model.get_input_embeddings()
    with torch.no_grad():
        questions = {
            row: table(ids[row, torch.tensor(own, dtype=torch.long, device=ids.device)]) for row, own in columns.items()
        }
    return questions, notes


def _mark_ignored(model: Any, inputs: Mapping[str, Any], mask: Tensor, items: Sequence[VisualInput]) -> Tensor:
    """(b, L): padding, answers that a loss is taken on, and what stands between an image's own tokens."""
    ignored, labels = mask == 0, inputs.get("labels")
    # The labels of a separate decoder say nothing about the prompt, whatever their length.
    if labels is not None and not has_own_decoder(model) and labels.shape == mask.shape:
        ignored |= labels.to(mask.device) != IGNORED_LABEL
    for item in items:
        if len(item.columns):  # ends of rows, markers of tiles, timestamps
            ignored[item.row, item.columns[0] : item.columns[-1]] = True
    return ignored


def find_question(
    ids: Sequence[int], first_image: int, template: Template, ignored: Sequence[bool], *, own: bool = False
) -> list[int]:
    """The columns of the question's tokens in one row of ids, ascending; empty if the user said nothing.

    Args:
        ids: The row's token ids.
        first_image: Column of the row's first image token.
        template: Which ids frame the user's words.
        ignored: For each id, whether it is padding, structure or an answer that a loss is taken on.
        own: Return the image's own question instead of the last one: that of the turn it stands in, or where that has
            no words, of the next turn of the user that has some.
    """
    openings = _find_openings(ids, template)
    before = [column for column in openings if column <= first_image]
    user = openings[before[-1]].role if before else ()
    turns: dict[int, list[int]] = {}  # the user's turns that have words, and the columns of these
    role: tuple[int, ...] = ()
    turn, heading, is_open = -1, 0, True
    for column, token in enumerate(ids):
        if column in openings:
            turn, role, heading, is_open = column, openings[column].role, column + openings[column].length, True
        if column < heading:
            continue
        if token in template.closers:
            is_open = False
        if ignored[column] or not is_open or template.is_control(token) or token in template.filler:
            continue
        if role == user:
            turns.setdefault(turn, []).append(column)
    if own:
        turns = {turn: columns for turn, columns in turns.items() if turn >= (before[-1] if before else -1)}
    return turns[min(turns) if own else max(turns)] if turns else []


@dataclass(frozen=True)
class _Opening:
    """The role that speaks from here on (comparable between turns), and how many tokens spell it."""

    role: tuple[int, ...]
    length: int


def _find_openings(ids: Sequence[int], template: Template) -> dict[int, _Opening]:
    """The columns where turns open."""
    openings: dict[int, _Opening] = {}
    for column, token in enumerate(ids):
        if template.is_control(token) and not template.learned:
            if token not in template.closers and token not in template.structure:
                opening = tuple(ids[column : column + 1 + ROLE_TOKENS])
                openings[column] = _Opening(opening, len(opening))
            continue
        for role, spellings in enumerate(template.roles):
            for spelling in spellings:
                if tuple(ids[column : column + len(spelling)]) == spelling:
                    openings[column] = _Opening((role,), len(spelling))
    return openings
