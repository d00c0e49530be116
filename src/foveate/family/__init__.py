"""Where the visual tokens live: one model family a file."""

from foveate.family.base import Family
from foveate.family.lookup import family_of

__all__ = ["Family", "family_of"]
