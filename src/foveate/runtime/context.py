"""How far a prompt reaches, and how far it may."""

from collections.abc import Mapping
from typing import Any


def context_length(model: Any) -> int | None:
    """The number of positions of the language model, if its configuration states one."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None


def last_position(inputs: Mapping[str, Any]) -> int:
    """The position of the prompt's last token."""
    positions = inputs.get("position_ids")
    return int(inputs["input_ids"].shape[1] if positions is None else positions.max() + 1) - 1
