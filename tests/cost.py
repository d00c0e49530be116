"""What a piece of code costs, counted and not timed: the same on every machine."""

import math
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode

READS_BACK = {"_local_scalar_dense", "nonzero", "_unique2", "masked_select", "equal", "is_nonzero", "_to_cpu"}


class Cost(TorchDispatchMode):
    """Of what runs inside: `ops`, `products`, `peak` and `reads`.

    Calls into torch that compute something, multiply-adds of matrix products, bytes that were alive at once, and the
    names of the calls that are a host sync on an accelerator.
    """

    def __init__(self):
        super().__init__()
        self.ops = self.products = self.alive = self.peak = 0
        self.reads = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not func.is_view:
            self.ops += 1
        if name in READS_BACK:
            self.reads.append(name)
        if name in ("mm", "mv", "addmm", "addmv", "bmm"):
            left = args[-2]
            self.products += out.numel() * left.shape[-1]
        if not func.is_view:
            inputs = {t.untyped_storage().data_ptr() for t in args if isinstance(t, torch.Tensor)}
            for fresh in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(fresh, torch.Tensor) and fresh.untyped_storage().data_ptr() not in inputs:
                    self._born(fresh)
        return out

    def _born(self, tensor):
        size = tensor.untyped_storage().nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        # Views keep the storage alive, so it is the storage whose end counts.
        weakref.finalize(tensor.untyped_storage(), self._gone, size)

    def _gone(self, size):
        self.alive -= size


def exponent(sizes, costs):
    """The slope of a line through (log size, log cost), by least squares."""
    x, y = [math.log(s) for s in sizes], [math.log(c) for c in costs]
    middle = sum(x) / len(x)
    return sum((a - middle) * b for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)
