"""Where the visual tokens live: one model family a file."""

from foveate.family.base import Family
from foveate.family.lookup import families, family_of

__all__ = ["Family", "families", "family_of"]
