"""Turns read from ids alone: by the spelling of their roles, or by the control tokens around them.

After every id that ends a turn, the next one opens with the same control token (`<|im_start|>user`), or with a control
token for each role (`<|user|>`). The turn that waits for the answer shows which role is the assistant's. The role that
spoke before the assistant's first turn is the user's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from foveate.models.turns import Dialog, Turn

Role = tuple[int, ...]
HEAD = 3  # columns after the end of a turn among which the next one opens: line ends may stand before it
NO_TURNS = (
    "Nothing tells the user's turns in a prompt from the others, so all its text was taken for the question: call "
    "foveate.learn_template(model, processor), or set model.config.foveate_template = {} if prompts have no template."
)
UNSURE = (
    "The roles in a prompt could not be told apart with certainty, so the question may be the wrong turn: call "
    "foveate.learn_template(model, processor)."
)
TOOL = (
    "A turn of the user looks like the result of a tool and was not taken for the question: call "
    "foveate.learn_template(model, processor) to be sure."
)


@dataclass(frozen=True)
class Template:
    """The ids that frame the user's words.

    Args:
        controls: Special ids, which are no words.
        controls_from: Every id from here on is special too; None where there is no such border.
        closers: Ids that end a turn.
        structure: Ids that stand inside a turn (images, padding). Any other control may open a turn.
        roles: Openings spelled in ordinary tokens, each with all its spellings; the first one is the user's.
        filler: Ordinary ids that the template puts around the words.
        system_ends: Ids that end the system's words where these stand in the user's first turn.
        is_bare: Whether prompts are known to have no template, so that all text is the question.
    """

    controls: frozenset[int]
    controls_from: int | None
    closers: frozenset[int]
    structure: frozenset[int]
    roles: tuple[tuple[tuple[int, ...], ...], ...] = ()
    filler: frozenset[int] = frozenset()
    system_ends: frozenset[int] = frozenset()
    is_bare: bool = False

    def is_control(self, token: int) -> bool:
        """Whether this id is no word."""
        return token in self.controls or (self.controls_from is not None and token >= self.controls_from)

    def is_word(self, token: int) -> bool:
        """Whether this id may be part of what somebody says."""
        return not self.is_control(token) and token not in self.filler

    def is_mark(self, token: int) -> bool:
        """Whether this id is special, but neither ends a turn nor belongs to an image."""
        return self.is_control(token) and token not in self.closers and token not in self.structure

    def split(self, ids: Sequence[int], first_image: int, ignored: Sequence[bool]) -> Dialog:
        """The turns of one row of ids whose first image stands at a column; `ignored` columns hold no words."""
        dialog = _split_by_roles(self, ids, ignored)
        if dialog is None and not self.is_bare:
            dialog = _split_by_controls(self, ids, first_image, ignored)
        if dialog is not None:
            return dialog
        words = [column for column, token in enumerate(ids) if self.is_word(token) and not ignored[column]]
        return Dialog([Turn(0, len(ids), True, words)], "" if self.is_bare else NO_TURNS, is_whole=True)


def _split_by_roles(template: Template, ids: Sequence[int], ignored: Sequence[bool]) -> Dialog | None:
    """The turns by roles spelled in ordinary tokens; None where none is spelled."""
    openings = [
        (column, column + len(spelling), role == 0)
        for column in range(len(ids))
        for role, spellings in enumerate(template.roles)
        for spelling in spellings
        if tuple(ids[column : column + len(spelling)]) == spelling
    ]
    ends = [column for column, _, _ in openings[1:]] + [len(ids)]
    turns = [
        Turn(start, end, is_user, _read_words(template, ids, ignored, begin, end))
        for (start, begin, is_user), end in zip(openings, ends, strict=False)
    ]
    return Dialog(turns) if any(turn.is_user for turn in turns) else None


def _split_by_controls(
    template: Template, ids: Sequence[int], first_image: int, ignored: Sequence[bool]
) -> Dialog | None:
    """The turns by control tokens; None where no turn opens in a way that is understood."""
    openings, named, certain = _find_openings(template, ids, ignored)
    if not openings:
        return None
    ends = [*openings[1:], len(ids)]
    bodies = [[c for c in range(*span) if not ignored[c]] for span in zip(openings, ends, strict=True)]
    heading = _measure_heading(template, [[ids[c] for c in body] for body in bodies], 2 if named else 1)
    roles = [tuple(ids[c] for c in body[: 2 if named else 1]) for body in bodies]
    shown = max((n for n, column in enumerate(openings) if column <= first_image), default=0)
    waits = all(template.is_mark(ids[column]) for column in bodies[-1][heading:])
    user, doubt = _find_user(roles, shown, waits=waits)
    certain = certain and (waits or any(ids[column] in template.closers for column in bodies[-1]))
    # A mark that stands in every turn opens the assistant's words there.
    inner = [{ids[c] for c in body[heading:] if template.is_mark(ids[c])} for body in bodies]
    doubt = doubt if certain and not set.intersection(*inner) else UNSURE
    blanks = {ids[column] for column in bodies[0][len(roles[0]) : heading]}  # line ends behind the role
    turns = []
    for number, (body, end) in enumerate(zip(bodies, ends, strict=True)):
        words = _read_words(template, ids, ignored, body[min(heading, len(body)) - 1] + 1, end)
        words = [column for column in words if ids[column] not in blanks]
        if roles[number] == user and number > roles.index(user) and _is_result(template, ids, body[heading:]):
            words, doubt = [], doubt or TOOL
        if number == roles.index(user):
            ends_of_system = [c for c in body if ids[c] in template.system_ends and c < first_image]
            words = [column for column in words if column > max(ends_of_system, default=-1)]
        turns.append(Turn(openings[number], end, roles[number] == user, words))
    return Dialog(turns, doubt)


def _find_openings(template: Template, ids: Sequence[int], ignored: Sequence[bool]) -> tuple[list[int], bool, bool]:
    """The columns where turns open; whether the id behind it names the role; whether all that is certain."""
    heads = _find_heads(template, ids, ignored)
    if not heads:
        return [], False, False
    first, *others = heads
    lead = list(takewhile(lambda column: template.is_control(ids[column]), first))
    for column in first[: len(lead) + 1]:
        opener = ids[column]
        if opener not in template.structure and others and all(opener in [ids[c] for c in head] for head in others):
            certain = template.is_control(opener)
            where = range(len(ids)) if certain else [c for head in heads for c in head]
            return [c for c in where if ids[c] == opener and not ignored[c]], True, certain
    marks = [[c for c in head if template.is_mark(ids[c])] for head in heads]
    if not all(marks):
        return [], False, False
    openers = {ids[columns[0]] for columns in marks}
    return [c for c in range(len(ids)) if ids[c] in openers and not ignored[c]], not others, False


def _find_heads(template: Template, ids: Sequence[int], ignored: Sequence[bool]) -> list[list[int]]:
    """The first columns of the prompt and those after every end of a turn."""
    heads: list[list[int]] = [[]]
    for column, token in enumerate(ids):
        if token in template.closers:
            heads.append([])
        elif not ignored[column] and len(heads[-1]) < HEAD:
            heads[-1].append(column)
    # What has a single id that opens nothing is a line end behind the last turn.
    return [head for head in heads if len(head) > 1 or any(template.is_mark(ids[column]) for column in head)]


def _measure_heading(template: Template, turns: Sequence[Sequence[int]], least: int) -> int:
    """How many ids open every turn: those that name the role, then the same marks in all turns, and a line end."""
    if len(turns) == 1:
        return least + 1
    heading = least
    for column in zip(*(turn[least:] for turn in turns), strict=False):
        if len(set(column)) > 1 or column[0] in template.structure:
            break
        heading += 1
        if not template.is_mark(column[0]):
            break
    return heading


def _find_user(roles: Sequence[Role], shown: int, *, waits: bool) -> tuple[Role, str]:
    """The user's role, and whether that is in doubt; turn `shown` holds the image, the last may wait."""
    first = list(roles).index(roles[-1])
    if first == 0:  # the assistant never opens a conversation
        return roles[0], ""
    user = roles[first - 1]
    return (user, "") if waits or user == roles[shown] else (roles[shown], UNSURE)


def _is_result(template: Template, ids: Sequence[int], body: Sequence[int]) -> bool:
    """Whether a turn stands between two marks, as tools' results in the user's turn do."""
    inner = list(takewhile(lambda token: token not in template.closers, (ids[column] for column in body)))
    return len(inner) > 1 and template.is_mark(inner[0]) and template.is_mark(inner[-1])


def _read_words(template: Template, ids: Sequence[int], ignored: Sequence[bool], begin: int, end: int) -> list[int]:
    """The columns of the words from a column on, until the turn ends."""
    columns = takewhile(lambda column: ids[column] not in template.closers, range(begin, end))
    return [column for column in columns if template.is_word(ids[column]) and not ignored[column]]
