"""Which tiles of an image are worth encoding, by the tokens of its overview."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from foveate.method.base import Method
from foveate.method.scoring import score_peaked_tokens
from foveate.method.selection import TIE
from foveate.method.tokens import VisualTokens, unit_rows

SALIENT = 0.5  # of the range of the relevance: what is above is nearly as relevant as the most relevant
SPREAD = 0.5  # of the tiles: a question for which more of them are relevant is one about the whole image


def choose_tiles(method: Method, overview: VisualTokens, regions: Sequence[Tensor], count: int) -> list[int]:
    """The numbers of at most `count` tiles, ascending: the first ones of `rank_tiles`."""
    return sorted(rank_tiles(method, overview, regions)[:count])


def choose_salient_tiles(method: Method, overview: VisualTokens, regions: Sequence[Tensor]) -> list[int]:
    """The numbers of the tiles over which the overview shows something nearly as relevant as anywhere, ascending.

    One for a question about one object; for a question about all objects of a kind, each tile that shows one. Every
    tile that is not padding, where these are more than half of them: the question is about the whole image. Every one
    too where the relevance is flat, as without a question.
    """
    shown = [n for n, region in enumerate(regions) if len(region)]
    relevance = _read_relevance(method, overview)
    if relevance is None:
        return shown
    scores = relevance.cpu()
    enough = scores.amin() + SALIENT * (scores.amax() - scores.amin())
    salient = [n for n in shown if bool(scores[regions[n]].amax() >= enough)]
    return shown if len(salient) > SPREAD * len(shown) else salient


def rank_tiles(method: Method, overview: VisualTokens, regions: Sequence[Tensor]) -> list[int]:
    """Rank the tiles by the most relevant tokens of the overview that lie over them.

    Relevance is the method's own, or that of `score_peaked_tokens` where a prompt-aware method has none. A tile counts
    as its most relevant token, ties as the mean of its tokens. Where the relevance is flat, as without a question, the
    tiles whose tokens differ most from each other are chosen.

    Args:
        method: The method that will select among the tokens of the encoded tiles.
        overview: The tokens of the overview, with the extras that the method needs.
        regions: For every tile the indices of the overview's tokens that lie over it; none for a tile of padding.

    Returns:
        The numbers of the tiles, the best one first, without those of padding.
    """
    relevance = _read_relevance(method, overview)
    if relevance is None:
        rows = unit_rows(overview.embeds)
        values = [(1 - float(rows[region].mean(0).norm()), 0.0) if len(region) else None for region in regions]
    else:
        scores = relevance.cpu()  # once: windows are many
        parts = [scores[region] for region in regions]
        values = [(float(part.amax()), float(part.mean())) if len(part) else None for part in parts]
    return sorted((n for n, value in enumerate(values) if value), key=lambda n: values[n] or (), reverse=True)


def _read_relevance(method: Method, overview: VisualTokens) -> Tensor | None:
    """The method's own relevance of every token, or that of its words; None where it is the same everywhere."""
    relevance = method.relevance_map(overview)
    if _is_flat(relevance) and method.prompt_aware:
        relevance = score_peaked_tokens(overview.embeds, overview.question)
    return None if _is_flat(relevance) else relevance


def find_region(box: tuple[float, float, float, float], rows: int, columns: int) -> Tensor:
    """The cells of a grid that a (top, left, bottom, right) box in shares of its sides overlaps, row by row."""
    top, left, bottom, right = box
    down, across = _overlap(top, bottom, rows), _overlap(left, right, columns)
    return (down[:, None] * columns + across).flatten()


def _overlap(start: float, end: float, count: int) -> Tensor:
    """Which of `count` equal steps of [0, 1] the interval overlaps; rounding errors do not count."""
    return torch.arange(math.floor(start * count + TIE), max(math.ceil(end * count - TIE), 0))


def _is_flat(relevance: Tensor | None) -> bool:
    return relevance is None or float(relevance.amax() - relevance.amin()) <= TIE
