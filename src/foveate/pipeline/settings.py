"""The settings of a call of `prune_inputs`, and the checks on settings and inputs that run before anything else."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from torch import Tensor

from foveate.errors import InputError
from foveate.method import Method, resolve
from foveate.method.budget import check_keep
from foveate.models.cache import cache_of

Positions = Literal["original", "compact"]
Per = Literal["image", "frame", "prompt"]
MODALITIES = ("image", "video", "audio")
PACKED = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")


@dataclass(frozen=True)
class PruneSettings:
    """Checked settings of `prune_inputs`, which documents them."""

    keep: int | float
    method: Method
    positions: Positions = "original"
    per: Per = "image"
    modalities: tuple[str, ...] = ("image", "video")
    explain: bool = False


def check_settings(
    keep: int | float, method: str | Method, positions: str = "original", per: str = "image",
    modalities: Sequence[str] = ("image", "video"), explain: bool = False,
) -> PruneSettings:  # fmt: skip
    """Check settings that `prune_inputs` can follow. Raises a `FoveateError` that names the one that is wrong."""
    check_keep(keep)
    if positions not in ("original", "compact"):
        raise InputError(f'positions={positions!r} is unknown: use "original" or "compact".')
    if per not in ("image", "frame", "prompt"):
        raise InputError(f'per={per!r} is unknown: use "image", "frame" or "prompt".')
    check_modalities(modalities)
    return PruneSettings(keep, resolve(method), cast(Positions, positions), cast(Per, per), tuple(modalities), explain)


def check_modalities(modalities: Sequence[str]) -> None:
    """Raise `InputError` unless these are modalities, in a collection that can be read more than once."""
    is_collection = isinstance(modalities, Collection) and not isinstance(modalities, str)
    if not is_collection or any(m not in MODALITIES for m in modalities):
        raise InputError(f"modalities={modalities!r}: give some of {', '.join(map(repr, MODALITIES))}, in a tuple.")


def check_inputs(inputs: Mapping[str, Any]) -> None:
    """Raise `InputError` for inputs in which images or question cannot be located."""
    if not isinstance(inputs, Mapping):
        raise InputError(f"inputs is a {type(inputs).__name__}: pass the mapping that the model's processor returns.")
    if inputs.get("inputs_embeds") is not None:
        raise InputError("inputs_embeds hide which tokens are the image and the question: pass input_ids instead.")
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.ndim != 2:
        raise InputError('input_ids must be a (batch, length) tensor: call the processor with return_tensors="pt".')
    mask = inputs.get("attention_mask")
    for name in ("attention_mask", "labels"):
        value = inputs.get(name)
        if value is not None and not isinstance(value, Tensor):
            raise InputError(f"{name} is a {type(value).__name__}: pass a tensor, one number for every token.")
    if mask is not None and tuple(mask.shape) != tuple(ids.shape):
        raise InputError(
            f"attention_mask has shape {tuple(mask.shape)}, input_ids {tuple(ids.shape)}: pass the processor's."
        )
    _check_unpacked(inputs)


def _check_unpacked(inputs: Mapping[str, Any]) -> None:
    """Raise `InputError` for several samples packed into one row."""
    packed = next((name for name in PACKED if inputs.get(name) is not None), None)
    if packed is not None:
        raise InputError(f"{packed} marks samples packed into one row, which cannot be pruned: pass one sample a row.")
    positions = inputs.get("position_ids")
    if not isinstance(positions, Tensor) or inputs.get("attention_mask") is not None:
        return
    # transformers reads them like this: of four axes the first one counts tokens, of three none does
    text = positions if positions.ndim < 3 else positions[0]
    if not (positions.ndim == 3 and len(positions) == 3) and bool((text.diff(dim=-1) != 1).any()):
        raise InputError(
            "position_ids that jump, without an attention_mask, mean packed sequences, which cannot be pruned: "
            "pass one sample a row, or an attention_mask if the row is one sample."
        )


def check_cache(inputs: Mapping[str, Any]) -> None:
    """Raise `InputError` for a cache that already holds a part of the prompt."""
    cache = cache_of(inputs)
    if cache is not None and cache.get_seq_length() > 0:
        raise InputError(
            "The cache (past_key_values) already holds a part of this prompt, unpruned or pruned for another question: "
            "pass the whole conversation without a cache."
        )
