"""How far a prompt reaches, and how far it may."""

from collections.abc import Mapping
from typing import Any

from foveate.errors import InputError


def context_length(model: Any) -> int | None:
    """The number of positions of the language model, if its configuration states one."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None


def last_position(inputs: Mapping[str, Any]) -> int:
    """The position of the prompt's last token."""
    positions = inputs.get("position_ids")
    return int(inputs["input_ids"].shape[1] if positions is None else positions.max() + 1) - 1


def measure_room(model: Any, inputs: Mapping[str, Any]) -> int | None:
    """How many positions are left for an answer; None where the model has no limit. Raises `InputError` for none."""
    limit, end = context_length(model), last_position(inputs) + 1
    if limit is None:
        return None
    if end >= limit:
        raise InputError(
            f"The conversation ends at position {end}, and the model has {limit} for it and the answer: use compact "
            'positions (positions="compact", in commands --positions compact), show fewer images, or begin a new one.'
        )
    return limit - end
