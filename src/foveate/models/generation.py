"""What a model's configurations say about generation."""

from typing import Any


def read_stop_ids(config: Any, generation_config: Any = None) -> list[int]:
    """The ids that end generation, ascending."""
    named = [getattr(source, "eos_token_id", None) for source in (generation_config, config.get_text_config())]
    return sorted({i for ids in named if ids is not None for i in (ids if isinstance(ids, list) else [ids])})


def read_pad_id(model: Any) -> int:
    """An id for padding. Any ordinary one will do where the mask is 0, but never a placeholder's."""
    sources = (getattr(model, "generation_config", None), model.config.get_text_config())
    named = [getattr(source, "pad_token_id", None) for source in sources]
    return next((i for i in named if isinstance(i, int)), 0)


def has_own_decoder(model: Any) -> bool:
    """Whether a separate decoder, which does not read the prompt, writes the answer (encoder-decoder models)."""
    configs = (model.config, model.config.get_text_config())
    return any(getattr(config, "is_encoder_decoder", False) for config in configs)
