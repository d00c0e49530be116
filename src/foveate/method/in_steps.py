"""`StepMethod`: the base class of methods that hide visual tokens from single steps of decoding."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.checks import FLOATS, check_tensor
from foveate.method.in_decoder import check_count
from foveate.method.inner import InnerMethod


@dataclass(frozen=True)
class StepMethod(InnerMethod):
    """A method that selects, anew at every step of decoding, the visual tokens that this step attends to.

    Nothing is dropped: the prompt is read as without the method, the KV cache stays whole, and the next step may attend
    to what this one did not. A subclass is a frozen dataclass. Its fields are the hyper-parameters, each with a
    default, and `__post_init__` checks them. It sets the class variables and implements `find_anchor` and `_select`.

    Example:
        @dataclass(frozen=True)
        class Nearest(StepMethod):
            name = "nearest"
            paper = "baseline"
            summary = "at every step, from layer 2 on, the tokens that any head rates highest"

            def find_anchor(self, depth):
                return 2

            def _select(self, logits, visual, k):
                return select_highest(logits[:, visual].amax(0), k)
    """

    prunes: ClassVar[str] = "decoding"

    @abstractmethod
    def find_anchor(self, depth: int) -> int:
        """Return the layer that selects; it and all later layers attend to what it selected.

        Args:
            depth: How many layers the decoder has.

        Returns:
            The number of the layer, counted from 0.
        """

    def select(self, logits: Tensor, visual: Tensor, k: int) -> Tensor:
        """Select the visual tokens that a step attends to.

        Args:
            logits: (heads, s) attention logits of the newest token in the anchor layer, before softmax, for the s
                tokens that it sees, itself among them.
            visual: (s,) bool, which of these are visual tokens, of all images of the prompt; n of them.
            k: The most that may be selected, from 1 to n.

        Returns:
            At least one and at most `k` int64 indices, ascending, counted among the visual tokens, on the device of
            `logits`. All of them if `k` is n.

        Raises:
            InputError: The tensors have other shapes, or `k` is out of range.
        """
        check_tensor("logits", logits)
        check_tensor("visual", visual)
        if logits.ndim != 2 or 0 in logits.shape or logits.dtype not in FLOATS:
            raise InputError(f"logits has shape {tuple(logits.shape)}: give attention logits as (heads, tokens).")
        if visual.dtype != torch.bool or visual.shape != logits.shape[1:]:
            raise InputError(f"visual is {visual.dtype} of shape {tuple(visual.shape)}: give a bool for every token.")
        n = int(visual.sum())
        check_count(n, k)
        if k == n:
            return torch.arange(n, device=logits.device)
        with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
            return self._select(logits.float(), visual, int(k))

    @abstractmethod
    def _select(self, logits: Tensor, visual: Tensor, k: int) -> Tensor:
        """`select` after its checks, in float32, for `k` below the number of visual tokens."""
