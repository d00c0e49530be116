"""How the tokens of a whole image lie in the prompt, where marks such as ends of rows stand among them.

Which of an image's tokens stay is known only after the encoder, and so is which of them stand before a mark. In the
engine all tokens of a pruned image are therefore placeholders: the rows of the marks, which are embedded like any word,
travel among those of the kept tokens, in the order of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Marks = Sequence[tuple[int, int]]
"""The place of each mark among the tokens of the whole image, ascending, and its token id."""


class Layout(NamedTuple):
    """What the processor announces for an image before pruning.

    `total` tokens, the marks among them, of which `protected` always stay (ends of rows, and the marks).
    """

    total: int
    protected: int
    marks: Marks = ()


def find_layout(ids: Sequence[int], is_feature: Tensor) -> Layout:
    """The layout of an image that stands in the prompt as these ids, of which some (n,) are the encoder's features."""
    marks = [(place, ids[place]) for place in (~is_feature).nonzero().squeeze(1).tolist()]
    return Layout(len(ids), len(marks), marks)


def write_ids(placeholder: int, total: int, marks: Marks) -> list[int]:
    """The ids of a whole image: placeholders, and the marks at their places."""
    ids = [placeholder] * total
    for place, token in marks:
        ids[place] = token
    return ids


def join_marks(rows: Tensor, kept: Tensor, words: Tensor, marks: Marks) -> tuple[Tensor, Tensor]:
    """The rows of an image's kept features and of its marks in the order of the prompt, and the place of each.

    Args:
        rows: (k, d) of the features that are kept.
        kept: (k,) which ones these are among the image's features, ascending.
        words: (m, w) embeddings of the marks; w may be less than d, and the further columns are 0.
        marks: The places of the marks.

    Returns:
        (k + m, d), and (k + m,) ascending places among all tokens of the whole image.
    """
    if not marks:
        return rows, kept
    of_marks = torch.tensor([place for place, _ in marks], dtype=torch.long, device=kept.device)
    # The n-th feature has as many marks before it as there are marks with at most n features before them.
    before = torch.searchsorted(of_marks - torch.arange(len(of_marks), device=kept.device), kept, right=True)
    places, order = torch.cat((kept + before, of_marks)).sort()
    words = torch.nn.functional.pad(words.to(rows), (0, rows.shape[1] - words.shape[1]))
    return torch.cat((rows, words))[order], places
