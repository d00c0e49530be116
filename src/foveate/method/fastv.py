"""FastV: an image is worth half of its tokens after layer 2."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from foveate.method.checks import check_int
from foveate.method.in_decoder import DecoderMethod, select_highest


@dataclass(frozen=True)
class FastV(DecoderMethod):
    """One drop: the tokens to which the prompt's last token attends most stay.

    The attention is that of the last layer before the drop, averaged over its heads. `keep` tokens are left from there.

    Args:
        layer: How many layers run before the drop (the paper's K), 1 or more.

    Source:
        arXiv 2403.06764.
    """

    layer: int = 2

    name: ClassVar[str] = "fastv"
    paper: ClassVar[str] = "arXiv 2403.06764"
    summary: ClassVar[str] = "after layer 2, the tokens to which the prompt's last token attends most"

    def __post_init__(self) -> None:
        check_int("layer", self.layer, 1)

    def layers(self, depth: int) -> tuple[int, ...]:
        """Return `layer`, in a model of any depth."""
        del depth
        return (int(self.layer),)

    def _select(self, attention: Tensor, k: int) -> Tensor:
        return select_highest(attention.mean((0, 1)), k)
