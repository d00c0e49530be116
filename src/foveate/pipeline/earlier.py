"""What earlier turns of a conversation kept of its images, for the next one to keep it too."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from foveate.models.visual_input import VisualInput
from foveate.pipeline.budget import Share


@dataclass(frozen=True, eq=False)
class EarlierChoices:
    """What earlier turns kept.

    Args:
        items: The items of the last report, which are the first ones of this prompt.
        adds: Whether what this question needs is kept beside it; else the choice stays as it was.
    """

    items: Sequence[VisualInput] = ()
    adds: bool = False

    def find(self, items: Sequence[VisualInput]) -> dict[int, VisualInput]:
        """The earlier record of each item that has one. Tiles that were cut differently are another image."""
        pairs = enumerate(zip(items, self.items, strict=False))
        return {n: old for n, (item, old) in pairs if (item.modality, item.total) == (old.modality, old.total)}


def skip_earlier(shares: Sequence[Share], items: Sequence[VisualInput], earlier: EarlierChoices) -> list[Share]:
    """The shares of items to choose from."""
    known = {} if earlier.adds else earlier.find(items)
    return [share for share in shares if share.item not in known]


def keep_earlier(items: Sequence[VisualInput], earlier: EarlierChoices) -> list[VisualInput]:
    """The items with what earlier turns kept: beside what was selected now, or in its place."""
    known, kept = earlier.find(items), list(items)
    for n, old in known.items():
        if earlier.adds:
            kept[n] = replace(items[n], kept=torch.cat([old.kept, items[n].kept]).unique())
        else:
            kept[n] = replace(items[n], kept=old.kept, keep=old.keep, reason=old.reason, retry_below=old.retry_below)
    return kept
