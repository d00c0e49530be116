"""VidCom2: more of the frames that are unlike the video, spent on the tokens that are unlike frame and video."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.method.base import Method
from foveate.method.checks import check_positive
from foveate.method.selection import select_top_k
from foveate.method.tokens import VisualTokens

WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)  # of the Gaussian kernels


@dataclass(frozen=True)
class VidCom2(Method):
    """A share for every frame by how unlike the video it is, spent on its tokens that are most unlike frame and video.

    x are the tokens, cut to the half of the channels that varies least over the video and scaled to length 1; c is the
    mean of all of them, c_t that of frame t. A token's likeness to a mean is `g(x, c) = sum_a exp(-|x - c|^2 / 2a)`
    over a = 1/8, 1/4, 1/2, 1, 2. Frame t of T has the uniqueness `u_t = -mean_i g(x_ti, c)` and the share
    `k / T (1 + p_t - 1 / T)` of the tokens, `p = softmax(u / temperature)`, at least one token. It keeps those with the
    lowest `g(x, c) + g(x, c_t)`. Where the shares do not sum to k, tokens with the lowest value are added, or those
    with the highest are left out. Tokens without a grid are one frame.

    Args:
        temperature: Of the softmax over the frames, above 0; the lower it is, the more goes to the most unique frame.

    Source:
        arXiv 2505.14454; the kernels and the choice of channels are those of the authors' implementation, which vLLM's
        documentation describes.
    """

    temperature: float = 0.01

    name: ClassVar[str] = "vidcom2"
    paper: ClassVar[str] = "arXiv 2505.14454"
    summary: ClassVar[str] = "more of the frames and of the tokens that are unlike the rest of the video"
    prompt_aware: ClassVar[bool] = False
    spatial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("temperature", self.temperature)

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        to_video, to_frame = _compare(tokens)
        likeness, frames = (to_video + to_frame).flatten(), len(to_video)
        size = len(likeness) // frames
        shares = torch.softmax(-to_video.mean(1) / self.temperature, 0)
        quotas = (k / frames * (1 + shares - 1 / frames)).round()
        taken = torch.zeros_like(likeness, dtype=torch.bool).index_fill_(0, selected, True)
        room = (~taken).unflatten(0, (frames, size)).sum(1)
        unlike, none = (-likeness).masked_fill(taken, -torch.inf), selected[:0]
        parts = zip(unlike.split(size), quotas.clamp(min=1).minimum(room).long().tolist(), strict=True)
        kept = torch.cat([t * size + select_top_k(part, count, none) for t, (part, count) in enumerate(parts)])
        if len(kept) > k:
            return kept[select_top_k(unlike[kept], k, none)]
        more = select_top_k(unlike, k - len(kept), torch.cat([kept, selected]))
        return torch.cat([kept, more]).sort().values


def _compare(tokens: VisualTokens) -> tuple[Tensor, Tensor]:
    """The tokens' likeness to the video and to their frame, each (frames, tokens of a frame)."""
    rows = tokens.embeds.float()
    calm = rows.var(0, correction=0).argsort(stable=True)[: max(1, rows.shape[1] // 2)]
    unit = torch.nn.functional.normalize(rows[:, calm], dim=-1)
    frames = unit.unflatten(0, (tokens.grid[0] if tokens.grid else 1, -1))
    return _measure(frames, unit.mean(0)), _measure(frames, frames.mean(1, keepdim=True))


def _measure(rows: Tensor, centre: Tensor) -> Tensor:
    distances = (rows - centre).square().sum(-1)
    return torch.stack([(-distances / (2 * width)).exp() for width in WIDTHS]).sum(0)
