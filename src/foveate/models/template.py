"""Which token ids of a model's vocabulary frame the user's words, where no chat template was read."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from foveate.errors import ModelError
from foveate.models.framing import Template as Template


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
