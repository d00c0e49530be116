"""Values by key, as long as a byte limit has room for them."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any


class ByteCache:
    """Values with their sizes; those least recently used are forgotten first. Not for several threads at a time.

    Args:
        max_bytes: Limit for all values together; one that is larger by itself is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable) -> Any:
        """The value, which is now the most recently used; None for an unknown key."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keep a value of `size` bytes in the place of an earlier one."""
        self.remove(key)
        if size > self.max_bytes:
            return
        self._entries[key], self.bytes = (value, size), self.bytes + size
        while self.bytes > self.max_bytes:
            self.remove(next(iter(self._entries)))

    def remove(self, key: Hashable) -> None:
        """Forget a value, if it is known."""
        _, size = self._entries.pop(key, (None, 0))
        self.bytes -= size

    def clear(self) -> None:
        """Forget all values."""
        self._entries.clear()
        self.bytes = 0
