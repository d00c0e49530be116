"""Which token ids of a model's vocabulary frame the user's words, where no chat template was read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foveate.errors import ModelError
from foveate.models.framing import split_by_controls, split_by_roles
from foveate.models.turns import Dialog, Turn

NO_TURNS = (
    "Nothing tells the user's turns in a prompt from the others, so all its text was taken for the question: call "
    "foveate.learn_template(model, processor), or set model.config.foveate_template = {} if prompts have no template."
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
        dialog = split_by_roles(self, ids, ignored) if self.roles else None
        dialog = dialog or split_by_controls(self, ids, first_image, ignored)
        if dialog is not None:
            return dialog
        words = [column for column, token in enumerate(ids) if self.is_word(token) and not ignored[column]]
        return Dialog([Turn(0, len(ids), True, words)], "" if self.is_bare else NO_TURNS, is_whole=True)


def default_template(config: Any, stop_ids: Sequence[int]) -> Template:
    """The template that a model's configuration describes.

    Vocabularies put added special tokens at their end, so the lowest special id in the upper half marks their border.

    Args:
        config: The model's configuration. A checkpoint may name its roles (each a list of spellings in ids) and filler:
            `config.foveate_template = {"roles": [[[5, 6], [7, 6]], [[8, 6]]], "filler": [9]}`, the user's role first.
            An empty dict says that its prompts have no template: all their text is the question.
        stop_ids: Ids that end generation.

    Raises:
        ModelError: `config.foveate_template` is malformed.
    """
    text = config.get_text_config()
    named = [getattr(c, name, None) for c in (config, text) for name in _id_names(c)]
    structure = {i for i in named if isinstance(i, int)} - set(stop_ids)
    controls = structure | set(stop_ids)
    high = [i for i in controls if i >= text.vocab_size // 2]
    named_template = getattr(config, "foveate_template", None)
    own = named_template or {}
    try:
        roles = tuple(tuple(tuple(map(int, spelling)) for spelling in role) for role in own.get("roles", ()))
        filler = frozenset(map(int, own.get("filler", ())))
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            "config.foveate_template is malformed: each of its roles is a list of spellings, "
            "its filler is a list of ids."
        ) from error
    return Template(
        controls=frozenset(controls), controls_from=min(high, default=None), closers=frozenset(stop_ids),
        structure=frozenset(structure), roles=roles, filler=filler,
        is_bare=named_template is not None and not roles,
    )  # fmt: skip


def _id_names(config: Any) -> list[str]:
    """The names of a configuration's single-token fields: image_token_id, bos_token_id, vision_start_token_id, ..."""
    return [name for name in vars(config) if name.endswith(("_token_id", "_token_index"))]


def open_with(opener: int, plain: Template, inside: Iterable[int] = (), filler: Iterable[int] = ()) -> Template:
    """`plain`, but `opener` opens a turn, and of the special ids `inside` no other does. `filler` are no words."""
    structure = (plain.structure | frozenset(inside)) - plain.closers - {opener}
    controls = plain.controls | structure | {opener}
    return replace(plain, controls=controls, structure=structure, filler=plain.filler | frozenset(filler))


def granite_template(plain: Template, vocabulary: int) -> Template:
    """Granite 4's: `<|start_of_role|>` opens a turn; ends of roles, images and marks of tiles stand inside."""
    return open_with(100264, plain, range(100256, vocabulary)) if vocabulary > 100264 else plain
