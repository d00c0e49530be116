"""Classes by name: built-in ones from a plain table, other people's from entry points.

A plug-in package needs no more than this in its pyproject.toml:

    [project.entry-points."foveate.methods"]
    mine = "my_package.mine:Mine"
"""

import difflib
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from foveate.errors import FoveateError, RegistryError

T = TypeVar("T")


class Registry(Generic[T]):
    """The built-in classes of one kind and those of an entry-point group; each is imported when it is first used.

    Args:
        group: The entry-point group in which plug-in packages name their classes.
        builtin: The built-in classes, as "module:Class" by name. They need no installed metadata.
        kind: What one of them is called in error messages.
        unknown: The error to raise for a name that is not registered.
    """

    def __init__(self, group: str, builtin: Mapping[str, str], *, kind: str, unknown: type[FoveateError]) -> None:
        self.group = group
        self.kind = kind
        self._builtin = builtin
        self._unknown = unknown

    def names(self) -> list[str]:
        """Every registered name, sorted. Imports nothing."""
        return sorted(self._entries)

    def load(self, name: str) -> type[T]:
        """Import and return the class registered as `name`.

        Raises:
            FoveateError: The registry's own unknown-name error, with the nearest names.
            RegistryError: Two packages claim the name, the import fails, or the entry point names no class.
        """
        if name not in self._entries:
            raise self._unknown(self._describe_unknown(name))
        entries = self._entries[name]
        if len({entry.value for entry in entries}) > 1:
            claims = " and ".join(sorted(f"{_owner(entry)} ({entry.value})" for entry in entries))
            raise RegistryError(f"Two packages claim the {self.kind} {name!r}: {claims}. Uninstall one of them.")
        try:
            loaded = entries[0].load()
        except (ImportError, AttributeError) as error:
            raise RegistryError(
                f"The {self.kind} {name!r} of {_owner(entries[0])} could not be imported from {entries[0].value!r}: "
                f"{error}. Update or uninstall that package."
            ) from error
        if not isinstance(loaded, type):
            raise RegistryError(
                f"The {self.kind} {name!r} of {_owner(entries[0])} is a {type(loaded).__name__}: "
                f"let its entry point {entries[0].value!r} name a class."
            )
        return loaded

    @cached_property
    def _entries(self) -> dict[str, list[EntryPoint]]:
        # Read once: a scan of the installed packages takes milliseconds, and a method is looked up on every call.
        entries = {name: [EntryPoint(name, value, self.group)] for name, value in self._builtin.items()}
        for entry in entry_points(group=self.group):
            if _owner(entry) != "foveate":  # metadata of an older foveate must not override the code that runs
                entries.setdefault(entry.name, []).append(entry)
        return entries

    def _describe_unknown(self, name: str) -> str:
        names = self.names()
        if not names:
            return f"There is no {self.kind} {name!r}, and none is registered: install foveate again."
        near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        return f"There is no {self.kind} {name!r}.{hint} Available: {', '.join(names)}."


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "foveate"
