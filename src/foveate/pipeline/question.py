"""Which tokens of a prompt are the question: the user's words, found from the ids alone.

A prompt is cut into turns. A turn opens with a control token and the role that follows it (`<|im_start|>user\\n`), or
with a role spelled in ordinary tokens (`USER:`). The turn that holds a picture tells which opening is the user's; the
question is the last turn that opens alike and has words, so that each turn of a conversation asks for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foveate.errors import ModelError

ROLE_TOKENS = 2  # the role and the newline after a control token that opens a turn


@dataclass(frozen=True)
class Template:
    """The ids that frame the user's words.

    `controls` are special ids, and so is every id from `controls_from` on (None: no such border). `closers` end a turn;
    `structure` stands inside one (pictures, padding); any other control opens one. `roles` are openings spelled in
    ordinary tokens, each with all its spellings; `filler` are ordinary tokens that the template puts around the words.
    Where the template is `learned`, roles say all: no control opens a turn.
    """

    controls: frozenset[int]
    controls_from: int | None
    closers: frozenset[int]
    structure: frozenset[int]
    roles: tuple[tuple[tuple[int, ...], ...], ...] = ()
    filler: frozenset[int] = frozenset()
    learned: bool = False

    def is_control(self, token: int) -> bool:
        """Whether this id is no word."""
        return token in self.controls or (self.controls_from is not None and token >= self.controls_from)


def default_template(config: Any, stop_ids: Sequence[int]) -> Template:
    """What a model's configuration tells of its template.

    `stop_ids` end generation. Vocabularies put added special tokens at their end, so that the lowest special id in the
    upper half marks where they begin. A checkpoint may name the rest itself, each role with its spellings in ids:
    `config.foveate_template = {"roles": [[[5, 6], [7, 6]], [[8, 6]]], "filler": [9]}`, or have it learned from the chat
    template (`foveate.learn_template`), which adds the special ids.
    """
    text = config.get_text_config()
    named = [getattr(c, name, None) for c in (config, text) for name in _id_names(c)]
    structure = {i for i in named if isinstance(i, int)} - set(stop_ids)
    controls = structure | set(stop_ids)
    high = [i for i in controls if i >= text.vocab_size // 2]
    own = getattr(config, "foveate_template", None) or {}
    try:
        roles = tuple(tuple(tuple(map(int, spelling)) for spelling in role) for role in own.get("roles", ()))
        filler = frozenset(map(int, own.get("filler", ())))
        specials = frozenset(map(int, own.get("specials", ())))
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            "config.foveate_template is malformed: each of its roles is a list of spellings, "
            "its filler and its specials are lists of ids."
        ) from error
    return Template(
        controls=frozenset(controls) | specials,
        controls_from=min(high, default=None),
        closers=frozenset(stop_ids),
        structure=frozenset(structure),
        roles=roles,
        filler=filler,
        learned="specials" in own,
    )


def _id_names(config: Any) -> list[str]:
    """The names of a configuration's single-token fields: image_token_id, bos_token_id, vision_start_token_id, ..."""
    return [name for name in vars(config) if name.endswith(("_token_id", "_token_index"))]


def find_question(
    ids: Sequence[int], first_image: int, template: Template, ignored: Sequence[bool], *, own: bool = False
) -> list[int]:
    """The places of the question's tokens in one row of ids, in order; empty if the user said nothing.

    `first_image` is the place of the row's first picture token; `ignored` marks padding and the answers that a loss is
    taken on. With `own` the question is not the last one but the picture's own: of the turn it stands in, or where that
    has no words, of the next of the user's that has some.
    """
    openings = _openings(ids, template)
    before = [place for place in openings if place <= first_image]
    user = openings[before[-1]].role if before else ()
    words: dict[int, list[int]] = {}
    role: tuple[int, ...] = ()
    turn, heading, speaking = -1, 0, True
    for place, token in enumerate(ids):
        if place in openings:
            turn, role, heading, speaking = place, openings[place].role, place + openings[place].length, True
        if place < heading:
            continue
        if token in template.closers:
            speaking = False
        if ignored[place] or not speaking or template.is_control(token) or token in template.filler:
            continue
        if role == user:
            words.setdefault(turn, []).append(place)
    if own:
        words = {turn: places for turn, places in words.items() if turn >= (before[-1] if before else -1)}
    return words[min(words) if own else max(words)] if words else []


@dataclass(frozen=True)
class _Opening:
    """Who speaks from here on (comparable between turns), and how many tokens say so."""

    role: tuple[int, ...]
    length: int


def _openings(ids: Sequence[int], template: Template) -> dict[int, _Opening]:
    """Where turns open."""
    found: dict[int, _Opening] = {}
    for place, token in enumerate(ids):
        if template.is_control(token) and not template.learned:
            if token not in template.closers and token not in template.structure:
                opening = tuple(ids[place : place + 1 + ROLE_TOKENS])
                found[place] = _Opening(opening, len(opening))
            continue
        for role, spellings in enumerate(template.roles):
            for spelling in spellings:
                if tuple(ids[place : place + len(spelling)]) == spelling:
                    found[place] = _Opening((role,), len(spelling))
    return found
