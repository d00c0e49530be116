"""PyramidDrop: fewer tokens after each stage of layers."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from foveate.method.in_decoder import DecoderMethod, check_layer_shares, select_highest, to_layers


@dataclass(frozen=True)
class PyramidDrop(DecoderMethod):
    """A drop at the end of each stage: the tokens to which the prompt's last token attends most stay.

    The attention is that of the stage's last layer, averaged over its heads. Every drop keeps the same share of the
    tokens, so that `keep` are left after the last; keep=0.125 is the paper's 0.5 a stage.

    Args:
        layers_at: The ends of the stages, as ascending shares of the depth. The paper's are after 8, 16 and 24 of 32
            layers. In a shallow model, stages that end at the same layer are one.

    Source:
        arXiv 2410.17247.
    """

    layers_at: tuple[float, ...] = (8 / 32, 16 / 32, 24 / 32)

    name: ClassVar[str] = "pyramiddrop"
    paper: ClassVar[str] = "arXiv 2410.17247"
    summary: ClassVar[str] = "in three stages, the tokens to which the prompt's last token attends most"

    def __post_init__(self) -> None:
        check_layer_shares(self.layers_at)

    def layers(self, depth: int) -> tuple[int, ...]:
        """Return the ends of the stages, rounded to whole layers."""
        return to_layers(self.layers_at, depth)

    def _select(self, attention: Tensor, k: int) -> Tensor:
        return select_highest(attention.mean((0, 1)), k)
