"""Methods and families by name. Built-ins and plug-ins come through the same door: entry points.

A plug-in package needs no more than this in its pyproject.toml:

    [project.entry-points."foveate.methods"]
    mine = "my_package.mine:Mine"
"""

from __future__ import annotations

import difflib
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Generic, TypeVar

from foveate.errors import FoveateError, RegistryError, UnknownFamilyError, UnknownMethodError

if TYPE_CHECKING:
    from foveate.decoder.base import DecoderMethod
    from foveate.family.base import Family
    from foveate.method.base import Method

T = TypeVar("T")


class Registry(Generic[T]):
    """The classes behind one entry-point group, imported only when asked for."""

    def __init__(self, group: str, *, kind: str, unknown: type[FoveateError]) -> None:
        self.group = group
        self.kind = kind
        self._unknown = unknown

    def names(self) -> list[str]:
        """Every registered name, sorted. Imports nothing."""
        return sorted(self._entries)

    def load(self, name: str) -> type[T]:
        """Import and return the class registered as `name`.

        Raises the registry's unknown-name error, with the nearest names, if there is none; `RegistryError` if two
        packages claim the name, if the import fails or if what it finds is not a class.
        """
        if name not in self._entries:
            raise self._unknown(self._no_such(name))
        entries = self._entries[name]
        if len({entry.value for entry in entries}) > 1:
            claims = " and ".join(sorted(f"{_owner(entry)} ({entry.value})" for entry in entries))
            raise RegistryError(f"Two packages claim the {self.kind} {name!r}: {claims}. Uninstall one of them.")
        try:
            found = entries[0].load()
        except (ImportError, AttributeError) as error:
            raise RegistryError(
                f"The {self.kind} {name!r} of {_owner(entries[0])} could not be imported from {entries[0].value!r}: "
                f"{error}. Update or uninstall that package."
            ) from error
        if not isinstance(found, type):
            raise RegistryError(
                f"The {self.kind} {name!r} of {_owner(entries[0])} is a {type(found).__name__}: "
                f"let its entry point {entries[0].value!r} name a class."
            )
        return found

    @cached_property
    def _entries(self) -> dict[str, list[EntryPoint]]:
        # Read once: a scan of the installed packages takes milliseconds, and a method is resolved on every call.
        found: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=self.group):
            found.setdefault(entry.name, []).append(entry)
        return found

    def _no_such(self, name: str) -> str:
        names = self.names()
        if not names:
            return f"There is no {self.kind} {name!r}, nor any other: install foveate (`pip install foveate`)."
        near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        return f"There is no {self.kind} {name!r}.{hint} There are: {', '.join(names)}."


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unnamed package"


METHODS: Registry[Method | DecoderMethod] = Registry("foveate.methods", kind="method", unknown=UnknownMethodError)
FAMILIES: Registry[Family] = Registry("foveate.families", kind="family", unknown=UnknownFamilyError)
