"""The checks on the inputs of a call, all of them before anything runs; what only the model's own code can judge.

Every message names the input, what came and what is expected.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.errors import EncoderError, FoveateError, InputError, describe
from foveate.method.checks import FLOATS, INTEGERS, check_tensor, is_int
from foveate.models import Family
from foveate.models.cache import NAMES

PACKED = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")
IDS, NUMBERS = (torch.int64, torch.int32), (*INTEGERS, *FLOATS)
TOKENS = {"attention_mask": (*NUMBERS, torch.bool), "position_ids": NUMBERS, "labels": INTEGERS}  # one a token
FIX = "let the model's own processor make all inputs, from the same images and text."
# Errors of the machine, not of the inputs.
UNRELATED = (FoveateError, MemoryError, torch.OutOfMemoryError, getattr(torch, "AcceleratorError", MemoryError))


def check_containers(inputs: Mapping[str, Any]) -> None:
    """Raise `InputError` unless the inputs are tensors by name, a cache, and encoder outputs by modality."""
    if not isinstance(inputs, Mapping):
        raise InputError(f"inputs is a {type(inputs).__name__}: pass the mapping that the model's processor returns.")
    for name, value in inputs.items():
        if not isinstance(name, str):
            raise InputError(f"The inputs have a name that is no str, {describe(name)}: leave it out.")
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, Tensor):
                check_tensor(name, part)
    for name in NAMES:
        cache = inputs.get(name)
        if cache is not None and (isinstance(cache, type) or not hasattr(cache, "get_seq_length")):
            raise InputError(f"{name} is {describe(cache)}: pass a Cache of transformers, or leave it out.")
    states = inputs.get("encoder_outputs")
    if states is not None and not (isinstance(states, (Mapping, tuple)) and _has_states(states)):
        raise InputError(f"encoder_outputs is {describe(states)}: pass what the model's encoder returned.")
    ready = inputs.get("mm_encoder_outputs")
    if ready is not None and not isinstance(ready, Mapping):
        raise InputError(f"mm_encoder_outputs is {describe(ready)}: pass what the encoders returned, by modality.")


def check_outputs(outputs: Mapping[str, Any]) -> None:
    """Raise `InputError` unless these are what encoders returned, by modality."""
    for modality, output in outputs.items():
        if not _is_output(output):
            raise InputError(
                f"The encoder output of {describe(modality)} is {describe(output)}: pass what it returned."
            )


def check_encoder_inputs(family: Family, inputs: Mapping[str, Any]) -> None:
    """Raise `InputError` for pixels, spectrograms and grids that are no tensors of numbers."""
    check_outputs(inputs.get("mm_encoder_outputs") or {})
    for modality, name in family.traits.main_inputs.items():
        value, grid = inputs.get(name), inputs.get(f"{modality}_grid_thw")
        parts = value if isinstance(value, (list, tuple)) else [value]
        if value is not None and not (len(parts) and all(isinstance(part, Tensor) for part in parts)):
            raise InputError(f"{name} is {describe(value)}: pass a tensor, as the model's processor returns it.")
        if grid is None:
            continue
        is_grid = isinstance(grid, Tensor) and grid.dtype in IDS and grid.ndim == 2 and grid.shape[1] == 3
        if not is_grid or not bool((grid > 0).all()):
            raise InputError(
                f"{modality}_grid_thw is {describe(grid)}: pass integers above 0, (t, h, w) for each {modality}."
            )


def check_inputs(model: Any, family: Family, inputs: Mapping[str, Any]) -> None:
    """Raise `InputError` for inputs in which images or question cannot be located."""
    check_containers(inputs)
    if inputs.get("inputs_embeds") is not None:
        raise InputError("inputs_embeds hide which tokens are the image and the question: pass input_ids instead.")
    check_encoder_inputs(family, inputs)
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.dtype not in IDS or not ids.numel():
        raise InputError(
            f"input_ids is {describe(ids)}, and must be a (batch, length) tensor of integers: "
            'call the processor with return_tensors="pt".'
        )
    _check_tokens(inputs, ids)
    _check_vocabulary(model, family, inputs, ids)
    check_positions(inputs.get("position_ids"), len(ids), ids.shape[1])
    _check_unpacked(inputs)
    _check_logits(inputs.get("logits_to_keep"), ids.shape[1])


def check_token_types(inputs: Mapping[str, Any]) -> None:
    """Raise `InputError` for token types that are not one a token; placeholders that do not fit are named before."""
    shape = tuple(inputs["input_ids"].shape)
    for name in inputs:
        value = inputs[name] if name.endswith("token_type_ids") else None
        if value is not None and tuple(value.shape[-2:]) != shape:
            raise InputError(f"{name} has shape {tuple(value.shape)}, the prompt {shape}: give one a token.")


def check_following(inputs: Mapping[str, Any]) -> None:
    """Raise `InputError` for the tokens of a call behind a pruned prompt."""
    check_containers(inputs)
    ids, embeds = inputs.get("input_ids"), inputs.get("inputs_embeds")
    new, axes, dtypes = (embeds, 3, FLOATS) if ids is None else (ids, 2, IDS)
    if not isinstance(new, Tensor) or new.ndim != axes or new.dtype not in dtypes:
        raise InputError(f"input_ids is {describe(new)}: go on with a (batch, length) tensor of integers.")
    rows, length = new.shape[:2]
    if not rows or not length:
        raise InputError(f"input_ids are {rows} rows of {length} tokens: go on with one token at least.")
    for name in ("attention_mask", "cross_attention_mask"):
        mask = inputs.get(name)
        if mask is not None and (not isinstance(mask, Tensor) or mask.ndim < 2 or len(mask) != rows):
            raise InputError(f"{name} is {describe(mask)}: pass one of {rows} rows and the columns of all tokens.")


def to_index(keep: Any) -> Any:
    """`logits_to_keep` in a form that selects columns of one axis: to torch a tuple is an index of several axes."""
    if isinstance(keep, np.ndarray) and keep.dtype.kind in "iub":
        return torch.from_numpy(keep.copy())  # torch takes no arrays of negative strides
    return list(keep) if isinstance(keep, (tuple, range)) else keep


@contextmanager
def explain_refusal(model: Any) -> Iterator[None]:
    """Say in a sentence what the model's own code, or what reads inputs for it, could not make of them.

    Which sizes and masks fit together differs from model to model. Raises `EncoderError` from the error itself.
    """
    try:
        yield
    except UNRELATED:
        raise
    except Exception as error:  # the code of 85 families
        cause = " ".join(str(error).split())[:200] or "no message"
        raise EncoderError(
            f"{type(model).__name__} cannot read these inputs ({type(error).__name__}: {cause}): {FIX}"
        ) from error


def _has_states(states: Any) -> bool:
    """Whether these are encoder outputs, by name or in order, that begin with a tensor."""
    parts = tuple(states.values()) if isinstance(states, Mapping) else states
    return bool(parts) and isinstance(parts[0], Tensor)


def _is_output(value: Any) -> bool:
    """Whether this is what an encoder returns, or None."""
    return value is None or any(hasattr(value, name) for name in ("pooler_output", "last_hidden_state", "states"))


def _check_tokens(inputs: Mapping[str, Any], ids: Tensor) -> None:
    """Raise `InputError` for mask, positions, labels and token types that are no numbers, or not one a token."""
    kinds = {name: (*INTEGERS, torch.bool) for name in inputs if name.endswith("token_type_ids")}
    for name, dtypes in {**TOKENS, **kinds}.items():
        value = inputs.get(name)
        if value is None:
            continue
        if not isinstance(value, Tensor):
            raise InputError(f"{name} is a {type(value).__name__}: pass a tensor, one number for every token.")
        if value.dtype not in dtypes:
            raise InputError(f"{name} is {value.dtype}: pass integers, one for every token.")
    mask = inputs.get("attention_mask")
    if mask is not None and tuple(mask.shape) != tuple(ids.shape):
        raise InputError(
            f"attention_mask has shape {tuple(mask.shape)}, input_ids {tuple(ids.shape)}: pass the processor's."
        )
    across = inputs.get("cross_attention_mask")
    if across is not None and (not isinstance(across, Tensor) or tuple(across.shape[:2]) != tuple(ids.shape)):
        raise InputError(f"cross_attention_mask is {describe(across)}: pass the tensor that the processor returned.")
    if mask is not None and bool((mask != mask).any()):
        raise InputError("attention_mask contains NaN: pass 1 for tokens and 0 for padding.")


def _check_vocabulary(model: Any, family: Family, inputs: Mapping[str, Any], ids: Tensor) -> None:
    """Raise `InputError` for words that the model has no embedding for; placeholders need none."""
    table = model.get_input_embeddings()
    size = getattr(table, "num_embeddings", None)
    size = None if size is None else size + getattr(table, "num_additional_embeddings", 0)
    visible = inputs.get("attention_mask")
    is_word = torch.ones_like(ids, dtype=torch.bool) if visible is None else visible.to(ids.device) != 0
    for modality in family.traits.modalities if family.traits.in_sequence else ():
        is_word = is_word & ~family.placeholders(model.config, inputs, modality).to(ids.device)
    words = ids.where(is_word, 0)
    low, high = (int(end) for end in words.aminmax())
    if low < 0 or (size is not None and high >= size):
        known = "begins at 0" if size is None else f"is 0 to {size - 1}"
        raise InputError(
            f"input_ids hold {low if low < 0 else high}, and this model's vocabulary {known}: "
            "use the model's own tokenizer."
        )


def check_positions(positions: Any, rows: int, length: int) -> None:
    """Raise `InputError` unless position ids are (L,), (1 or b, L), or 3 or 4 axes of these; or None."""
    if positions is None:
        return
    is_number = isinstance(positions, Tensor) and positions.dtype in NUMBERS
    shape = tuple(positions.shape) if is_number else ()
    fits = 1 <= len(shape) <= 3 and shape[-1] == length and (len(shape) < 2 or shape[-2] in (1, rows))
    if not fits or (len(shape) == 3 and shape[0] not in (3, 4)):
        raise InputError(
            f"position_ids is {describe(positions)}, the prompt {(rows, length)}: pass integers of that shape, or of "
            "three or four axes of it."
        )


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


def _check_logits(keep: Any, length: int) -> None:
    """Raise `InputError` unless `logits_to_keep` is a number, or the columns of some of the tokens."""
    if keep is None or isinstance(keep, int):
        return
    if isinstance(keep, slice):
        parts = (keep.start, keep.stop, keep.step)
        fits = all(part is None or is_int(part) for part in parts) and (keep.step is None or keep.step > 0)
    else:
        index = to_index(keep)
        columns = index.tolist() if isinstance(index, Tensor) and index.dtype in IDS else index
        is_mask = isinstance(index, Tensor) and index.dtype == torch.bool and tuple(index.shape) == (length,)
        fits = is_mask or (isinstance(columns, list) and all(is_int(at) and -length <= at < length for at in columns))
    if not fits:
        raise InputError(f"logits_to_keep is {describe(keep)}: give a number, or columns of the {length} tokens.")
