"""Step 2: which tokens of a prompt are the question.

The question is the user's last turn that has words, so each turn of a conversation has its own question. Where
`foveate.learn_template` has read the chat template, the turns are known; else they are read from the ids alone
(`models.framing`), and where that leaves a doubt a warning says so.
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.errors import FoveateWarning
from foveate.models import Family
from foveate.models.chat_template import ChatTemplate
from foveate.models.generation import has_own_decoder, read_stop_ids
from foveate.models.sequence import IGNORED_LABEL
from foveate.models.template import Template
from foveate.models.turns import Dialog
from foveate.models.visual_input import VisualInput

LEARNED = "foveate_template"  # the attribute of a model that `foveate.learn_template` sets
WARNED = "foveate_warned"  # the attribute of a model that holds what was said about its prompts
NO_QUESTION = "A prompt has no question: its visual tokens were selected for diversity alone."
LABELLED = (
    "The labels cover the whole prompt and nothing tells the answer from the question, so both were taken for it: call "
    "foveate.learn_template(model, processor)."
)
NO_SHARED_SPACE = "This model's tokens share no space with words: they were selected for diversity alone."


def read_template(model: Any, family: Family) -> Template | ChatTemplate:
    """The model's template: as `foveate.learn_template` read it, else as the configuration describes it."""
    config = model.config
    learned = getattr(model, LEARNED, None)
    if learned and "openings" in learned:
        return ChatTemplate(**learned)
    if learned is not None:
        config = copy.copy(config)  # the user's own configuration stays as it is
        config.foveate_template = learned
    return family.template(config, read_stop_ids(config, getattr(model, "generation_config", None)))


def locate_questions(
    model: Any, family: Family, inputs: Mapping[str, Any], mask: Tensor, items: Sequence[VisualInput], *,
    is_last: bool = False,
) -> tuple[dict[int, Tensor], list[str]]:  # fmt: skip
    """The embeddings (m, d) of the question of every row that shows something, and notes on what is uncertain of them.

    m is 0 for a row without a question, and where visual tokens share no space with words. With `is_last` the question
    stands behind the last image of its row.
    """
    template = read_template(model, family)
    first: dict[int, VisualInput] = {}
    last: dict[int, VisualInput] = {}
    for item in sorted(items, key=lambda item: (item.row, item.first)):
        first.setdefault(item.row, item)
        last[item.row] = item
    if not family.traits.shared_space:
        return {row: item.embeds.detach()[:0] for row, item in first.items()}, [NO_SHARED_SPACE]
    ids, hidden, labelled = inputs["input_ids"], _mark_hidden(mask, items), _mark_labelled(model, inputs, mask)
    table, questions, notes = model.get_input_embeddings(), {}, []
    for row, item in first.items():
        columns, doubt = _read_row(ids[row].tolist(), item.first, template, hidden[row], labelled[row])
        if is_last:
            columns = [column for column in columns if column >= last[row].first]
        with torch.no_grad():
            questions[row] = table(ids[row, torch.tensor(columns, dtype=torch.long, device=ids.device)])
        notes += [doubt if columns else NO_QUESTION]
    return questions, [note for note in dict.fromkeys(notes) if note]


def find_question(
    ids: Sequence[int], first_image: int, template: Template | ChatTemplate, ignored: Sequence[bool], *,
    own: bool = False,
) -> list[int]:  # fmt: skip
    """The columns of the question's tokens in one row of ids, ascending; empty if the user said nothing.

    Args:
        ids: The row's token ids.
        first_image: Column of the row's first image token.
        template: How the prompt frames the user's words.
        ignored: For each id, whether it is padding, structure or an answer that a loss is taken on.
        own: Return the image's own question instead of the last one: that of the turn it stands in, or where that has
            no words, of the next turn of the user that has some.
    """
    return template.split(ids, first_image, ignored).find_question(first_image if own else None)


def warn_once(model: Any, notes: Sequence[str]) -> None:
    """A `FoveateWarning` for each note that was not yet given about this model."""
    seen: set[str] = getattr(model, WARNED, set())
    for note in notes:
        if note not in seen:
            setattr(model, WARNED, seen := {*seen, note})
            # Python itself would show it for the first model of a program only.
            warnings.warn_explicit(note, FoveateWarning, __name__, 0, registry={})


def _read_row(
    ids: Sequence[int], first_image: int, template: Template | ChatTemplate, hidden: Tensor, labelled: Tensor
) -> tuple[list[int], str]:
    """The columns of one row's question, and what makes them uncertain."""

    def split(ignored: Tensor) -> tuple[list[int], Dialog]:
        dialog = template.split(ids, first_image, ignored.tolist())
        return dialog.find_question(), dialog

    columns, dialog = split(hidden)
    if not (dialog.doubt or dialog.is_whole) or not bool(labelled.any()):
        return columns, dialog.doubt
    # Where turns are uncertain, labels that leave the prompt out show the answer.
    unlabelled, rest = split(hidden | labelled)
    return (unlabelled, rest.doubt) if unlabelled else (columns, LABELLED)


def _mark_hidden(mask: Tensor, items: Sequence[VisualInput]) -> Tensor:
    """(b, L): padding, images, and what stands between an image's own tokens."""
    hidden = mask == 0
    for item in items:
        if len(item.columns):  # ends of rows, markers of tiles, timestamps
            hidden[item.row, item.columns[0] : item.columns[-1] + 1] = True
    return hidden


def _mark_labelled(model: Any, inputs: Mapping[str, Any], mask: Tensor) -> Tensor:
    """(b, L): what a loss is taken on."""
    labels = inputs.get("labels")
    # The labels of a separate decoder say nothing about the prompt, whatever their length.
    if labels is None or has_own_decoder(model) or labels.shape != mask.shape:
        return torch.zeros_like(mask, dtype=torch.bool)
    labelled: Tensor = labels.to(mask.device) != IGNORED_LABEL
    return labelled
