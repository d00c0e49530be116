"""Where the visual tokens live: one model family a file."""

from foveate.family.base import Family, families, family_of

__all__ = ["Family", "families", "family_of"]
