"""Which token ids of a model's vocabulary frame the user's words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foveate.errors import ModelError


@dataclass(frozen=True)
class Template:
    """The ids that frame the user's words.

    Args:
        controls: Special ids, which are no words.
        controls_from: Every id from here on is special too; None where there is no such border.
        closers: Ids that end a turn.
        structure: Ids that stand inside a turn (images, padding). Any other control opens a turn.
        roles: Openings spelled in ordinary tokens, each with all its spellings.
        filler: Ordinary ids that the template puts around the words.
        learned: Whether a chat template was read; then only `roles` open a turn, no control does.
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
    """The template that a model's configuration describes.

    Vocabularies put added special tokens at their end, so the lowest special id in the upper half marks their border.

    Args:
        config: The model's configuration. A checkpoint may name its roles (each a list of spellings in ids) and filler:
            `config.foveate_template = {"roles": [[[5, 6], [7, 6]], [[8, 6]]], "filler": [9]}`.
        stop_ids: Ids that end generation.

    Raises:
        ModelError: `config.foveate_template` is malformed.
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
        controls=frozenset(controls) | specials, controls_from=min(high, default=None), closers=frozenset(stop_ids),
        structure=frozenset(structure), roles=roles, filler=filler, learned="specials" in own,
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
