"""The seam: what a method is, how one is named, and `select`, the pure function around them all."""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.budget import to_budget
from foveate.method.checks import is_int
from foveate.method.in_decoder import DecoderMethod
from foveate.method.registry import METHODS
from foveate.method.scoring import scale_min_max
from foveate.method.selection import select_top_k
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class Method(ABC):
    """A published way to choose k of n visual tokens; its fields are its hyper-parameters, each with a default.

    A subclass is a frozen dataclass that fills in the class variables, checks its fields in `__post_init__` (raising
    `InputError`) and writes `_select`. A method that merges writes `_merge_weights` as well, one that prefers
    some tokens to others by a score `_relevance_map`, for those who want to see why. It must keep the laws of
    tests/method/test_laws.py.
    """

    name: ClassVar[str]  # as registered
    paper: ClassVar[str]  # "arXiv 2510.17197", or "baseline"
    summary: ClassVar[str]  # one line
    prompt_aware: ClassVar[bool]  # the choice depends on the question
    spatial: ClassVar[bool] = False  # the choice depends on where a token stands, not only on what it is
    needs: ClassVar[frozenset[str]] = frozenset()  # the extras of `VisualTokens` that it reads

    def select(
        self,
        tokens: VisualTokens,
        k: int,
        *,
        selected: Sequence[int] | Tensor = (),
        given: Sequence[int] | Tensor | None = None,
    ) -> Tensor:
        """The indices of `k` new tokens to keep, (k,) int64, ascending, on the device of `tokens`.

        `selected` are distinct indices that are kept already: they count as selected and are not returned. Half
        precision is computed in float32, under autocast as well; no gradient is recorded.

        Raises `InputError` unless 1 <= k <= n - len(selected) and `selected` are distinct indices below n, and if
        `tokens` lack an extra that the method needs.
        """
        if given is not None:
            warnings.warn("given= is now called selected=.", DeprecationWarning, stacklevel=2)
            selected = given
        device = tokens.embeds.device
        kept = selected.tolist() if isinstance(selected, Tensor) else list(selected)
        self._check(tokens, k, kept)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return self._select(tokens, int(k), torch.tensor(kept, dtype=torch.long, device=device))

    def select_many(self, images: Sequence[VisualTokens], ks: Sequence[int]) -> list[Tensor]:
        """`select` for each picture, all on one device; on a GPU at once, where the method knows how.

        Raises `InputError` as `select` does, before anything is chosen.
        """
        for tokens, k in zip(images, ks, strict=True):
            self._check(tokens, k, [])
        if not images:
            return []
        with torch.no_grad(), torch.autocast(images[0].embeds.device.type, enabled=False):
            return self._select_many(images, [int(k) for k in ks])

    def _check(self, tokens: VisualTokens, k: int, kept: list[int]) -> None:
        self._check_needs(tokens)
        n = tokens.embeds.shape[0]
        if not all(is_int(i) and 0 <= i < n for i in kept) or len(set(kept)) < len(kept):
            raise InputError(f"selected={kept} must be distinct token indices, each an int from 0 to {n - 1}.")
        if not is_int(k) or not 1 <= k <= n - len(kept):
            raise InputError(
                f"k={k!r} new tokens cannot be chosen from {n} with {len(kept)} selected already: "
                f"use an int from 1 to {n - len(kept)} (foveate.method.budget.to_budget turns `keep` into one)."
            )

    def merge_weights(self, tokens: VisualTokens, kept: Tensor) -> Tensor | None:
        """What the kept tokens hold: None where each holds its own value, as in most methods.

        A method that merges the dropped tokens into those kept, `kept` (k,) as `select` returned them, gives weights
        (k, n) >= 0 in float32, each row summing to 1: the kept values are `merge_weights @ values`.

        Raises `InputError` if `tokens` lack an extra that the method needs.
        """
        self._check_needs(tokens)
        with torch.no_grad(), torch.autocast(tokens.embeds.device.type, enabled=False):
            return self._merge_weights(tokens, kept)

    def mix(self, tokens: VisualTokens, kept: Tensor) -> Tensor | None:
        """Deprecated name of `merge_weights`."""
        warnings.warn("Method.mix is now called Method.merge_weights.", DeprecationWarning, stacklevel=2)
        return self.merge_weights(tokens, kept)

    def relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        """How much the method itself prefers each token, whatever else is kept: (n,) in float32, higher = sooner.

        By the question, or by what stands out to the vision tower; on a scale of the method's own. None where it does
        not look at relevance.

        Raises `InputError` if `tokens` lack an extra that the method needs.
        """
        self._check_needs(tokens)
        with torch.no_grad(), torch.autocast(tokens.embeds.device.type, enabled=False):
            return self._relevance_map(tokens)

    def core_mask(self, tokens: VisualTokens, kept: Tensor) -> Tensor:
        """Which of `kept` (k,), as `select` returned them, are there for their relevance: (k,) bool, beside `kept`.

        Those among the k tokens that `relevance_map` puts first, lower indices first where it is even, unless a method
        chooses them in a step of its own. None of them where the map says nothing.

        Raises `InputError` if `tokens` lack an extra that the method needs.
        """
        self._check_needs(tokens)
        with torch.no_grad(), torch.autocast(tokens.embeds.device.type, enabled=False):
            return self._core_mask(tokens, kept)

    @abstractmethod
    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        """`select` after its checks: `selected` (g,) is int64 on the tokens' device and 1 <= k <= n - g."""

    def _select_many(self, images: Sequence[VisualTokens], ks: Sequence[int]) -> list[Tensor]:
        """`select_many` after its checks."""
        none = torch.empty(0, dtype=torch.long, device=images[0].embeds.device)
        return [self._select(tokens, k, none) for tokens, k in zip(images, ks, strict=True)]

    def _merge_weights(self, tokens: VisualTokens, kept: Tensor) -> Tensor | None:  # noqa: ARG002 for those that override it
        """`merge_weights` after its checks."""
        return None

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:  # noqa: ARG002 for those that override it
        """`relevance_map` after its checks."""
        return None

    def _core_mask(self, tokens: VisualTokens, kept: Tensor) -> Tensor:
        """`core_mask` after its checks."""
        scores = self._relevance_map(tokens)
        scaled = None if scores is None else scale_min_max(scores)
        if scaled is None or not bool(scaled.any()):
            return torch.zeros_like(kept, dtype=torch.bool)
        return torch.isin(kept, select_top_k(scaled, len(kept), kept[:0]))

    def _check_needs(self, tokens: VisualTokens) -> None:
        for name in sorted(self.needs):
            tokens.extra(name)


@dataclass(frozen=True)
class MethodInfo:
    """One row of the table of methods."""

    name: str
    paper: str
    summary: str
    prompt_aware: bool
    needs: tuple[str, ...]  # extras of `VisualTokens`, which only some models give
    prunes: str  # "input", or "decoder" for those that `attach` and `pruning` alone can use


def methods() -> list[MethodInfo]:
    """Every registered method, built-in or plugged in, sorted by name."""
    found = ((name, METHODS.load(name)) for name in METHODS.names())
    return [
        MethodInfo(
            name, method.paper, method.summary, method.prompt_aware,
            () if issubclass(method, DecoderMethod) else tuple(sorted(method.needs)),
            "decoder" if issubclass(method, DecoderMethod) else "input",
        )
        for name, method in found
    ]  # fmt: skip


def resolve(method: str | Method) -> Method:
    """The method itself, or the one registered under this name with its default hyper-parameters.

    Raises `UnknownMethodError` for a name that is not registered, `InputError` for anything that is not a method or
    prunes inside the decoder.
    """
    found = resolve_any(method)
    if isinstance(found, DecoderMethod):
        raise InputError(
            f"{found.name} drops tokens between the decoder's layers, so it needs the running model: "
            "use foveate.pruning or foveate.attach, or a method that prunes the input."
        )
    return found


def resolve_any(method: str | Method | DecoderMethod) -> Method | DecoderMethod:
    """`resolve` for either kind of method."""
    if isinstance(method, (Method, DecoderMethod)):
        return method
    if isinstance(method, str):
        made: Method | DecoderMethod = METHODS.load(method)()
        return made
    raise InputError(_not_a_method(method))


def _not_a_method(found: object) -> str:
    if inspect.isclass(found):
        return f"method={found.__name__} is a class: give an instance, {found.__name__}(), or a name."
    return f"method={found!r} is not a method: give a name ({', '.join(METHODS.names())}) or a Method instance."


def select(
    embeds: Tensor,
    question: Tensor | None = None,
    *,
    k: int | float,
    method: str | Method = "foveate",
    grid: tuple[int, int, int] | None = None,
    encoder: Tensor | None = None,
    cls_attention: Tensor | None = None,
    keys: Tensor | None = None,
) -> Tensor:
    """The indices of the visual tokens to keep, ascending int64.

    `embeds` (n, d) are one image's visual tokens, `question` (m, d) the question's token embeddings in the same space
    (None: no question), `grid` (t, h, w) the tokens' arrangement. `k` is an int >= 1 (tokens; more than n keeps all and
    warns) or a float in (0, 1] (a share of n). `encoder` (n, d_v), `cls_attention` (n,) and `keys` (n, d_k) are for the
    methods that need them (`foveate.methods()`; `VisualTokens` says what they are).

    Raises `KeepError` for such a `k`, `InputError` for tensors that do not fit together, `UnknownMethodError`.
    """
    chosen = resolve(method)
    asked = embeds[:0] if question is None else question
    tokens = VisualTokens(embeds, asked, grid, encoder=encoder, cls_attention=cls_attention, keys=keys)
    return chosen.select(tokens, to_budget(k, embeds.shape[0]))
