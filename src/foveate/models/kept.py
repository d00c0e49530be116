"""What an encoder's output holds after pruning: the kept tokens, row by row of the batch."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.errors import FoveateWarning
from foveate.models.versions import is_installed
from foveate.models.visual_input import VisualInput

# What an output holds for every token; the rest is about whole images or prompts.
TOKEN_FIELDS = ("pooler_output", "last_hidden_state", "deepstack_features")


def regroup_output(encoded: Any, entries: Sequence[Tensor], **fields: Any) -> Any:
    """`encoded` with these entries (n, d), one for each image, as its tokens: a `KeptOutput` with other fields."""
    from foveate.models.outputs import KeptOutput

    return KeptOutput(pooler_output=list(entries), is_tensor=reads_tensor(encoded), **fields)


def kept_output(encoded: Any, rows: Sequence[Tensor], **fields: Any) -> Any:
    """A `KeptOutput` of the tokens of every row, (k, d) each, as the model reads those of `encoded`."""
    from foveate.models.outputs import KeptOutput

    return KeptOutput(pooler_output=stack_rows(rows) if reads_tensor(encoded) else list(rows), **fields)


def kept_state(rows: Sequence[Tensor]) -> Any:
    """A `KeptState` of the tokens of every row, (k, d) each."""
    from foveate.models.outputs import KeptState

    return KeptState(pooler_output=stack_rows(rows))


def is_regrouped(output: Any) -> bool:
    """Whether this output has an entry for each image, whatever the encoder had."""
    return getattr(output, "is_tensor", None) is not None


def complete_rows(features: Sequence[Tensor], output: Any) -> tuple[list[Tensor], Sequence[Tensor | None]]:
    """Views (n, d) of the features of an output with as many rows as whole images have, and which (n,) are absent.

    Of the views of images of which tokens are absent only the size means something; of all others that is None.
    """
    absent: Sequence[Tensor | None] = getattr(output, "absent", None) or [None] * len(features)
    pairs = zip(features, absent, strict=True)
    return [rows if mask is None else rows[:1].expand(len(mask), -1) for rows, mask in pairs], absent


def is_pruned(output: Any) -> bool:
    """Whether this output holds kept tokens alone."""
    from foveate.models.outputs import KeptOutput, KeptState

    return isinstance(output, KeptOutput | KeptState) and not is_regrouped(output)


def take_tokens(output: Any, index: Tensor) -> Any:
    """An output of the kept tokens of one row with those of `index` (n,) alone, in this order."""
    taken = {name: _take(output[name], index) for name in TOKEN_FIELDS if output.get(name) is not None}
    return type(output)(**{**output, **taken})


def list_features(output: Any) -> list[Tensor]:
    """What an output of the kept tokens of one row holds of them: tensors (k, d), DeepStack's levels too."""
    values = [output[name] for name in TOKEN_FIELDS if output.get(name) is not None]
    return [tensor.flatten(0, -2) for value in values for tensor in _list_tensors(value)]


def _take(value: Any, index: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value.index_select(-2, index.to(value.device))
    return type(value)(_take(each, index) for each in value) if isinstance(value, (list, tuple)) else value


def _list_tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for each in value for tensor in _list_tensors(each)] if isinstance(value, (list, tuple)) else []


def reads_tensor(encoded: Any) -> bool:
    """Whether the model that made this output reads one tensor, not a list."""
    return isinstance(encoded.pooler_output, Tensor) or bool(getattr(encoded, "is_tensor", False))


def stack_rows(rows: Sequence[Tensor]) -> Tensor:
    """(rows, k, d), or (N, 1, d) where rows (k, d) differ in length: every token an entry, which beams repeat in order.

    Warns on transformers 5.18, whose beams repeat several entries of a row in the wrong order.
    """
    if len({len(row) for row in rows}) == 1:
        return torch.stack(list(rows))
    if not is_installed(">=5.19"):
        text = "transformers 5.18 mixes up the tokens of a batch under beam search: use 5.19, or a batch of one row."
        warnings.warn(text, FoveateWarning, stacklevel=2)
    return torch.cat(list(rows))[:, None]


def keep_tokens(features: Sequence[Tensor], items: Sequence[VisualInput]) -> list[Tensor]:
    """What `items` keep of their `features`, (k, d) each, those of one row of the batch joined.

    Beam search repeats these entry by entry. Where a row has several, older transformers (5.18) gets their order wrong.
    """
    joined: dict[int, list[Tensor]] = {}
    for feature, item in zip(features, items, strict=True):
        joined.setdefault(item.row, []).append(keep_values(feature, item))
    return [torch.cat(parts) for parts in joined.values()]


def keep_values(feature: Tensor, item: VisualInput) -> Tensor:
    """The kept tokens of a feature (n, d), or the means or weighted means of many for each, computed in float32.

    Rows of tokens that are absent are NaN, or are left out.
    """
    weights, into, kept = item.merge_weights, item.pooled_into, item.kept.to(feature.device)
    if item.absent is not None and len(feature) < item.total:
        kept = item.find_rows(kept)
    if item.absent is not None and (into is not None or weights is not None):
        present = item.present.to(feature.device)
        feature = feature[present] if len(feature) == item.total else feature
        into = None if into is None else into.to(feature.device)[present]
        weights = None if weights is None else weights.to(feature.device)[:, present]
    if into is not None:
        into = into.to(feature.device)
        counts, order = into.bincount(minlength=len(item.kept)), into.argsort(stable=True)
        return torch.segment_reduce(feature.float()[order], "mean", lengths=counts).to(feature.dtype)
    if weights is None:
        return feature[kept]
    with torch.autocast(feature.device.type, enabled=False):
        return (weights.to(feature.device) @ feature.float()).to(feature.dtype)
