"""Whether the text after a video is numbered behind it."""

import warnings
from functools import cache
from importlib.metadata import version

from torch import Tensor

from foveate.errors import FoveateWarning


def warn_if_text_is_inside(model_type: str, axes: Tensor, mask: Tensor, is_text: Tensor) -> None:
    """Warn, once for each model type, where text has a position that a video before it has too.

    Args:
        model_type: The family's name.
        axes: (3, b, L) temporal, height and width positions.
        mask: (b, L) tokens that are not padding.
        is_text: (b, L) tokens that are neither visual nor padding.
    """
    highest = axes.amax(0).masked_fill(~mask.bool(), -1)
    before = highest.cummax(1).values[:, :-1]
    if bool((is_text[:, 1:] & (highest[:, 1:] <= before)).any()):
        _warn(model_type)


@cache
def _warn(model_type: str) -> None:
    warnings.warn(
        f"transformers {version('transformers')} numbers the text after a video of {model_type} inside the video's "
        "times, not behind its last frame as these models were trained: answers about videos may be worse, pruned or "
        "not. Give position_ids of your own, or frames as images.",
        FoveateWarning,
        stacklevel=2,
    )
