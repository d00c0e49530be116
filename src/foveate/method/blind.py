"""A method without the question: what the question is worth to a method is the distance to this."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from foveate.errors import InputError
from foveate.method.base import Method
from foveate.method.foveate import Foveate
from foveate.method.tokens import VisualTokens


def make_blind(method: Method) -> Method | None:
    """The method without the question; None for a method that does not read it, or reads it inside the model alone.

    Example:
        foveate.prune_inputs(model, inputs, keep=0.1, method=make_blind(CDPruner()))
    """
    if not method.prompt_aware or "cross_attention" in method.needs:
        return None
    if isinstance(method, Foveate):  # and Glance
        return method.blind
    look = method.first_look
    return (make_blind(look.method) or look.method) if look else Blind(method)


@dataclass(frozen=True)
class Blind(Method):
    """Another method, which sees the tokens without the question.

    Args:
        method: The method, without a first look: the question shapes what that sees.
    """

    method: Method

    name: ClassVar[str] = "blind"
    paper: ClassVar[str] = "baseline"
    summary: ClassVar[str] = "another method without the question"
    prompt_aware: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.method.first_look:
            raise InputError(f"{self.method.name} looks at the image with the question: use make_blind.")
        object.__setattr__(self, "needs", self.method.needs)  # the class is frozen

    @property
    def merges(self) -> bool:
        """Whether the method does."""
        return self.method.merges

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        return self.method._select(_cut(tokens), k, selected)

    def _select_many(self, images: Sequence[VisualTokens], ks: Sequence[int]) -> list[Tensor]:
        return self.method._select_many([_cut(tokens) for tokens in images], ks)

    def _merge_weights(self, tokens: VisualTokens, kept: Tensor) -> Tensor | None:
        return self.method._merge_weights(_cut(tokens), kept)

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return self.method._relevance_map(_cut(tokens))

    def _core_mask(self, tokens: VisualTokens, kept: Tensor) -> Tensor:
        return self.method._core_mask(_cut(tokens), kept)


def _cut(tokens: VisualTokens) -> VisualTokens:
    """The tokens without the question."""
    return replace(tokens, question=tokens.question[:0])
