"""Where the visual tokens live: one model family a file."""

from foveate.models.base import Family
from foveate.models.lookup import families, family_of

__all__ = ["Family", "families", "family_of"]
