"""Options of `generate` with which transformers itself goes wrong on prompts with images."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from foveate.errors import InputError, describe
from foveate.hooks.generate import find_assistance, override, read_setting
from foveate.method.checks import is_int
from foveate.models import Family

ATTEND_BOTH_WAYS = frozenset({"gemma3", "gemma4", "gemma4_unified", "molmo2", "paligemma", "shieldgemma2"})
"""Families whose images attend in both directions: a chunk that ends inside an image hides its rest."""
UNSPLIT = frozenset(
    {
        "blip-2", "florence2", "granite4_vision", "instructblip", "instructblipvideo", "mllama", "ovis2", "t5gemma2",
    }
)  # fmt: skip
"""Families of which transformers does not split the encoded images, or the attention to them, among the chunks."""


UNASSISTED = frozenset({"blip-2", "instructblip", "instructblipvideo", "paligemma"})
"""Families of which assisted decoding writes other tokens than greedy decoding: the first three go on from embeddings,
where transformers loses the mask; in the last one the draft becomes a part of the prompt, which attends both ways."""


KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = MappingProxyType(
    {
        "stopping_criteria": (lambda value: _is_list(value, callable), "a list of functions"),
        "logits_processor": (lambda value: _is_list(value, callable), "a list of functions"),
        "prefix_allowed_tokens_fn": (callable, "a function"),
        "streamer": (lambda value: hasattr(value, "put") and hasattr(value, "end"), "an object with put and end"),
        "generation_config": (lambda value: callable(getattr(value, "to_dict", None)), "a GenerationConfig"),
        "max_length": (is_int, "an int"),
        "min_length": (is_int, "an int"),
        "max_new_tokens": (is_int, "an int"),
        "min_new_tokens": (is_int, "an int"),
        "pad_token_id": (is_int, "an int"),
        "eos_token_id": (lambda value: is_int(value) or _is_list(value, is_int), "an int or a list of them"),
        "suppress_tokens": (lambda value: _is_list(value, is_int), "a list of ints"),
    }
)
"""What these options of `generate` are, and how a message says so."""


def check_kinds(settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for an option of `generate` that is read here and has another type."""
    for name, (is_right, kind) in KINDS.items():
        value = settings.get(name)
        if value is not None and not is_right(value):
            raise InputError(f"{name} is {describe(value)}: give {kind}.")


def _is_list(value: Any, is_right: Callable[[Any], bool]) -> bool:
    return isinstance(value, (list, tuple)) and all(map(is_right, value))


def check_options(model: Any, family: Family, settings: dict[str, Any]) -> dict[str, Any]:
    """The options of a call of `generate` on a pruned prompt, changed where they would fail.

    Prompt lookup drafts no placeholders: transformers would look for their images.

    Args:
        model: The model.
        family: Its adapter.
        settings: The arguments of `generate` without the model's inputs.

    Returns:
        The arguments to call `generate` with.

    Raises:
        InputError: `prefill_chunk_size` on a family whose prompts cannot be cut, or assisted decoding on one whose
            drafts are not read as its answers are.
    """
    assistance = find_assistance(model, settings)
    if assistance is not None and family.model_type in UNASSISTED:
        raise InputError(
            f"{assistance} does not work with {family.model_type}, for which transformers writes another answer with "
            "it than without: leave it out."
        )
    if read_setting(model, settings, "prefill_chunk_size") is not None:
        _check_chunks(family.model_type)
    if read_setting(model, settings, "prompt_lookup_num_tokens") is None:
        return settings
    if not can_look_up(model, family):
        raise InputError(
            f"prompt_lookup_num_tokens does not work with {family.model_type}, whose placeholders are not in the "
            "vocabulary that answers are drafted from: leave it out."
        )
    suppressed = {*(read_setting(model, settings, "suppress_tokens") or ()), *_list_placeholders(model.config, family)}
    return override(settings, {"suppress_tokens": sorted(suppressed)})


def can_look_up(model: Any, family: Family) -> bool:
    """Whether transformers can draft from a prompt of this model: it looks every id up in the vocabulary's logits."""
    vocabulary: int = model.config.get_text_config().vocab_size
    return all(token < vocabulary for token in _list_placeholders(model.config, family))


def _check_chunks(model_type: str) -> None:
    """Raise `InputError` for a family whose prompts cannot be cut."""
    reason = ""
    if model_type in ATTEND_BOTH_WAYS:
        reason = "whose images attend in both directions: a chunk would hide a part of its image"
    if model_type in UNSPLIT:
        reason = "whose encoded images transformers does not split"
    if reason:
        raise InputError(f"prefill_chunk_size does not work with {model_type}, {reason}. Leave it out.")


def _list_placeholders(config: Any, family: Family) -> Iterator[int]:
    for modality in family.traits.modalities:
        try:
            yield family.token_id(config, modality)
        except (AttributeError, TypeError):  # an optional token that this model lacks
            continue
