"""What the tokens of a prompt are, so that two prompts can be compared: where they begin alike, so do their caches."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from foveate.models import Family
from foveate.models.kept import list_features
from foveate.models.sequence import count_positions
from foveate.pipeline.report import PrunedInputs


class Token(NamedTuple):
    """A token of a prompt. Its key and value in the cache follow from it and from all tokens before it.

    Args:
        column: Its place in the whole prompt, before pruning.
        id: Its id.
        position: On every axis; empty where positions only number the tokens of the shorter prompt.
        features: A digest of the visual token; of what the token sees beside the prompt, where it attends across to
            images; empty for others.
    """

    column: int
    id: int
    position: tuple[int, ...]
    features: bytes

    @property
    def key(self) -> tuple[int, tuple[int, ...], bytes]:
        """What must be the same in another prompt."""
        return self[1:]


def read_tokens(model: Any, family: Family, short: PrunedInputs, *, is_compact: bool) -> list[Token] | None:
    """The tokens of a pruned prompt of one row; None where its features are no tokens of the prompt, nor beside it."""
    layout = short.layout
    if layout is None or "input_ids" not in short or len(short["input_ids"]) != 1:
        return None
    ids, columns = short["input_ids"][0].tolist(), layout.index[0].tolist()
    positions: list[tuple[int, ...]] = [()] * len(ids)
    if not is_compact and "position_ids" in short:
        positions = list(zip(*list_axes(short["position_ids"]).tolist(), strict=True))
    features = _digest_tokens(model, family, short) if family.traits.in_sequence else _digest_sights(short)
    if features is None:
        return None
    return [Token(*parts) for parts in zip(columns, ids, positions, features, strict=True)]


def list_axes(positions: Tensor) -> Tensor:
    """(axes, L) of the positions of one row, without the axis of several that only counts tokens for masks."""
    axes = positions.reshape(-1, positions.shape[-1])
    return axes[1:] if counts_tokens(positions) else axes


def counts_tokens(positions: Tensor) -> bool:
    """Whether the first of several axes only counts tokens: masks are built from it."""
    if positions.ndim != 3 or len(positions) < 2:
        return False
    counted = count_positions(torch.ones_like(positions[0]))
    return bool((positions[0] == counted).all())


def follow_tokens(tokens: Sequence[Token], width: int, ids: Sequence[int]) -> list[Token]:
    """The tokens of an answer, with these ids, behind a prompt that was `width` tokens long before pruning."""
    last = tokens[-1]  # they see of the images what this one sees
    axes = [tuple(axis + 1 + n for axis in last.position) for n in range(len(ids))]
    return [Token(width + n, each, axes[n], last.features) for n, each in enumerate(ids)]


def order_behind(tokens: Sequence[Token], cached: Sequence[Token]) -> list[int]:
    """The order that begins as the cache does, as far as it holds these tokens; the others follow as they stand."""
    places = {token.column: n for n, token in enumerate(tokens)}
    first: list[int] = []
    for token in cached:
        at = places.get(token.column)
        if at is None or tokens[at].key != token.key:
            break
        first.append(at)
    return first + sorted(set(range(len(tokens))) - set(first))


def count_shared(tokens: Sequence[Token], cached: Sequence[Token], *, in_blocks: bool) -> int:
    """How many tokens both begin with; `in_blocks` counts no part of a run of visual tokens, which see each other."""
    ours, theirs = (_join_runs(each) if in_blocks else [token.key for token in each] for each in (tokens, cached))
    pairs = zip(ours, theirs, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(ours), len(theirs)))


def _join_runs(tokens: Sequence[Token]) -> list[tuple[Any, ...]]:
    """The keys of the tokens, those of visual ones with the digests of their whole run."""
    keys: list[tuple[Any, ...]] = []
    for _, run in groupby(tokens, key=lambda token: bool(token.features)):
        own = list(run)
        whole = b"".join(token.features for token in own)
        keys += [(*token.key[:2], whole) for token in own]
    return keys


def _digest_tokens(model: Any, family: Family, short: Mapping[str, Any]) -> list[bytes] | None:
    """A digest of the features of every visual token, all levels of DeepStack; empty for words."""
    digests = [b""] * short["input_ids"].shape[1]
    for modality, output in short["mm_encoder_outputs"].items():
        places = family.placeholders(model.config, short, modality)[0].nonzero().squeeze(1).tolist()
        levels = list_features(output)
        if any(len(level) != len(places) for level in levels):
            return None
        for place, digest in zip(places, _digest_rows(levels), strict=True):
            digests[place] = digest
    return digests


def _digest_sights(short: Mapping[str, Any]) -> list[bytes] | None:
    """A digest, for every word, of which states it sees; of the states themselves too."""
    states, mask = short.get("cross_attention_states"), short.get("cross_attention_mask")
    if states is None or mask is None:
        return None
    whole = b"".join(_digest_rows([states.as_subclass(Tensor)[0]]))
    return [
        hashlib.blake2b(whole + row, digest_size=16).digest() for row in _digest_rows([mask.as_subclass(Tensor)[0]])
    ]


def _digest_rows(levels: Sequence[Tensor]) -> list[bytes]:
    """A digest of each row (n, ...) of these tensors together."""
    flat = [level.detach().reshape(len(level), -1).cpu().contiguous().view(torch.uint8) for level in levels]
    rows = torch.cat(flat, dim=1).numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
