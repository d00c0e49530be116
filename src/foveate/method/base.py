"""`Method`: the base class of all methods that prune the input."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError, describe
from foveate.method.checks import check_kept, check_tensor, is_int
from foveate.method.scoring import scale_min_max
from foveate.method.selection import select_top_k
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class FirstLook:
    """How the attention is made that a method reads as `VisualTokens.attention`.

    Args:
        method: What selects the tokens of the look, without the attention.
        share: Their share of an image's tokens, in (0, 1].
        depth: The share of the language model's layers that run before the attention is read, in (0, 1].
        spread: How far the attention to a token reaches, in steps of the grid, above 0.
        pooled: Whether each token of the look is the mean of those that lie nearest to it, instead of itself.
    """

    method: "Method"
    share: float
    depth: float
    spread: float
    pooled: bool = False


@dataclass(frozen=True)
class Method(ABC):
    """A method that selects k of the n visual tokens of an image.

    A subclass is a frozen dataclass. Its fields are the hyper-parameters, each with a default, and `__post_init__`
    checks them. It sets the class variables and implements `_select`. If it merges dropped tokens into kept ones, it
    implements `_merge_weights`; if it scores the tokens, `_relevance_map`; if it selects its core in a separate step,
    `_core_mask`. Computation is in float32 without gradients and autocast. tests/method/test_laws.py lists the laws
    that every method obeys.

    Example:
        @dataclass(frozen=True)
        class TopK(Method):
            name = "topk"
            paper = "baseline"
            summary = "the tokens nearest to the question's mean"
            prompt_aware = True

            def _select(self, tokens, k, selected):
                return select_top_k(score_pooled(tokens.embeds, tokens.question), k, selected)
    """

    name: ClassVar[str]  # as registered
    paper: ClassVar[str]  # "arXiv 2510.17197", or "baseline"
    summary: ClassVar[str]  # one line
    prompt_aware: ClassVar[bool]  # the selection depends on the question
    spatial: ClassVar[bool] = False  # the selection depends on the order or the grid of the tokens
    needs: ClassVar[frozenset[str]] = frozenset()  # extras of `VisualTokens` that it reads

    @property
    def spec(self) -> str:
        """The name, with the fields that differ from their defaults: "foveate", "foveate(focus=0.5)"."""
        changed = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    @property
    def first_look(self) -> FirstLook | None:
        """The first look that gives the method the attention it `needs`; None for a method that does not read it."""
        return None

    @property
    def merges(self) -> bool:
        """Whether dropped tokens are merged into kept ones."""
        return type(self)._merge_weights is not Method._merge_weights

    def select(
        self,
        tokens: VisualTokens,
        k: int,
        *,
        selected: Sequence[int] | Tensor = (),
        given: Sequence[int] | Tensor | None = None,
    ) -> Tensor:
        """Select `k` more tokens to keep.

        Args:
            tokens: The tokens of one image.
            k: How many to select, from 1 to n - len(selected).
            selected: Distinct indices of tokens that are kept already. They are not returned again.
            given: Deprecated name of `selected`.

        Returns:
            (k,) int64 indices, ascending, on the device of `tokens`.

        Raises:
            InputError: `k` or `selected` is out of range, or `tokens` have not all extras that the method needs.
        """
        if given is not None:
            warnings.warn("given= is now called selected=.", DeprecationWarning, stacklevel=2)
            selected = given
        kept, device = self._check(tokens, k, selected), tokens.embeds.device
        with self._computing(tokens):
            return self._select(tokens, int(k), torch.tensor(kept, dtype=torch.long, device=device))

    def select_many(self, images: Sequence[VisualTokens], ks: Sequence[int]) -> list[Tensor]:
        """Call `select` for each image; some methods need only one kernel launch for all of them on a GPU.

        Args:
            images: The tokens of each image, all on one device.
            ks: How many tokens to select of each image.

        Returns:
            The (k,) indices for each image.

        Raises:
            InputError: As `select`, before anything is computed.
        """
        if not isinstance(images, Sequence) or not isinstance(ks, Sequence) or len(images) != len(ks):
            raise InputError("images and ks do not fit: pass two lists, the tokens of each image and as many numbers.")
        for tokens, k in zip(images, ks, strict=True):
            self._check(tokens, k, ())
        if len({tokens.embeds.device for tokens in images}) > 1:
            raise InputError("The images are on several devices: move them to one.")
        if not images:
            return []
        with self._computing(images[0]):
            return self._select_many(images, [int(k) for k in ks])

    def merge_weights(self, tokens: VisualTokens, kept: Tensor) -> Tensor | None:
        """Compute how dropped tokens are merged into kept ones.

        Args:
            tokens: The tokens of one image.
            kept: (k,) indices, as returned by `select`.

        Returns:
            (k, n) float32 weights >= 0 whose rows sum to 1: the kept values are `merge_weights @ values`. None if the
            method does not merge.

        Raises:
            InputError: `tokens` have not all extras that the method needs.
        """
        with self._computing(tokens):
            check_kept(kept, len(tokens.embeds), tokens.embeds.device)
            return self._merge_weights(tokens, kept)

    def mix(self, tokens: VisualTokens, kept: Tensor) -> Tensor | None:
        """Call `merge_weights`; this is its deprecated name."""
        warnings.warn("Method.mix is now called Method.merge_weights.", DeprecationWarning, stacklevel=2)
        return self.merge_weights(tokens, kept)

    def relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        """Compute how much the method prefers each token, before any is selected.

        Returns:
            (n,) float32 scores on the method's own scale, higher = preferred. None if the method has no such score.

        Raises:
            InputError: `tokens` have not all extras that the method needs.
        """
        with self._computing(tokens):
            return self._relevance_map(tokens)

    def core_mask(self, tokens: VisualTokens, kept: Tensor) -> Tensor:
        """Compute which kept tokens are the core: kept for their relevance. The others are the complement.

        By default these are the kept tokens among the k most relevant ones, ties to the lower index; none if the
        relevance map is flat.

        Args:
            tokens: The tokens of one image.
            kept: (k,) indices, as returned by `select`.

        Returns:
            (k,) bool, in the order of `kept`.

        Raises:
            InputError: `tokens` have not all extras that the method needs.
        """
        with self._computing(tokens):
            check_kept(kept, len(tokens.embeds), tokens.embeds.device)
            return self._core_mask(tokens, kept)

    @abstractmethod
    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        """`select` after its checks: `selected` (s,) is int64 on the tokens' device and 1 <= k <= n - s."""

    def _select_many(self, images: Sequence[VisualTokens], ks: Sequence[int]) -> list[Tensor]:
        """`select_many` after its checks."""
        none = torch.empty(0, dtype=torch.long, device=images[0].embeds.device)
        return [self._select(tokens, k, none) for tokens, k in zip(images, ks, strict=True)]

    def _merge_weights(self, tokens: VisualTokens, kept: Tensor) -> Tensor | None:  # noqa: ARG002
        """`merge_weights` after its checks."""
        return None

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:  # noqa: ARG002
        """`relevance_map` after its checks."""
        return None

    def _core_mask(self, tokens: VisualTokens, kept: Tensor) -> Tensor:
        """`core_mask` after its checks."""
        scores = self._relevance_map(tokens)
        if scores is None or not bool((scaled := scale_min_max(scores)).any()):
            return torch.zeros_like(kept, dtype=torch.bool)
        return torch.isin(kept, select_top_k(scaled, len(kept), kept[:0]))

    @contextmanager
    def _computing(self, tokens: VisualTokens) -> Iterator[None]:
        """Check that the extras are there; then neither gradients nor autocast."""
        self._check_needs(tokens)
        with torch.no_grad(), torch.autocast(tokens.embeds.device.type, enabled=False):
            yield

    def _check_needs(self, tokens: VisualTokens) -> None:
        if not isinstance(tokens, VisualTokens):
            raise InputError(f"tokens is a {type(tokens).__name__}: make VisualTokens of the tokens of one image.")
        for name in sorted(self.needs):
            tokens.extra(name)

    def _check(self, tokens: VisualTokens, k: int, selected: Sequence[int] | Tensor) -> list[int]:
        """Return the tokens that are selected already."""
        self._check_needs(tokens)
        n = len(tokens.embeds)
        if isinstance(selected, Tensor):
            check_tensor("selected", selected)
        kept = selected.tolist() if hasattr(selected, "tolist") else selected
        is_listed = isinstance(kept, Collection) and all(is_int(i) and 0 <= i < n for i in kept)
        if not is_listed or len(set(kept)) < len(kept):
            raise InputError(
                f"selected={describe(selected)} must be distinct token indices, each an int from 0 to {n - 1}."
            )
        if not is_int(k) or not 1 <= k <= n - len(kept):
            raise InputError(
                f"k={describe(k)} new tokens cannot be selected from {n} with {len(kept)} already selected: "
                f"use an int from 1 to {n - len(kept)} (foveate.method.budget.to_budget converts `keep` to one)."
            )
        return list(kept)
