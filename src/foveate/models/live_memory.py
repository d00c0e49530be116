"""The most memory that the tensors of a block of code take at once, on any device."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of tensors that operations of this thread make in a block of code, while they are alive.

    What an operation needs within itself is not seen. `peak` is the most at any time, in bytes.

    Example:
        with LiveMemory() as live:
            model(pixels)
        print(live.peak)
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._alive: dict[int, int] = {}  # bytes, by address

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation and count what is new in its result: weights, and views of them, were there before."""
        kwargs = kwargs or {}
        before = {tensor.untyped_storage().data_ptr() for tensor in _list_tensors((*args, *kwargs.values()))}
        result = operation(*args, **kwargs)
        for tensor in _list_tensors((result,)):
            storage = tensor.untyped_storage()
            address = storage.data_ptr()
            if address and address not in before and address not in self._alive:
                self._alive[address] = storage.nbytes()
                self._now += storage.nbytes()
                self.peak = max(self.peak, self._now)
                weakref.finalize(storage, self._free, address)
        return result

    def _free(self, address: int) -> None:
        self._now -= self._alive.pop(address)


def _list_tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor) and not value.is_meta:
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _list_tensors(value)
