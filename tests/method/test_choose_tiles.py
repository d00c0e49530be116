"""Which tiles are worth encoding, by the tokens of the overview."""

from dataclasses import replace

import pytest
import torch

from foveate.method import resolve
from foveate.method.foveate import Foveate
from foveate.method.tiles import choose_salient_tiles, choose_tiles, find_region
from foveate.method.tokens import VisualTokens

QUARTERS = [find_region((r / 2, c / 2, (r + 1) / 2, (c + 1) / 2), 4, 4) for r in range(2) for c in range(2)]


def make_tokens(cell, question=1):
    """A 4 x 4 overview in which one cell looks like the question and the others are noise."""
    rng = torch.Generator().manual_seed(0)
    embeds = torch.randn(16, 64, generator=rng)
    words = torch.randn(question, 64, generator=rng)
    if question:
        embeds[cell] = words[0] * 3
    return VisualTokens(embeds, words, (1, 4, 4))


@pytest.mark.parametrize("method", ["foveate", "cdpruner", "zspaprune"])
@pytest.mark.parametrize(("cell", "tile"), [(0, 0), (5, 0), (3, 1), (8, 2), (15, 3)])
def test_the_tile_of_what_the_question_names(method, cell, tile):
    assert choose_tiles(resolve(method), make_tokens(cell), QUARTERS, 1) == [tile]


@pytest.mark.parametrize("method", ["foveate", "divprune", "random"])
def test_without_a_question_the_most_varied_tile(method):
    tokens = make_tokens(0, question=0)
    for region in QUARTERS[:2] + QUARTERS[3:]:
        tokens.embeds[region] = tokens.embeds[region[0]].clone()
    assert choose_tiles(resolve(method), tokens, QUARTERS, 1) == [2]


@pytest.mark.parametrize("method", [Foveate(focus=0), resolve("divprune"), resolve("grid")])
def test_a_method_that_does_not_read_the_question_chooses_without_it(method):
    tokens = make_tokens(0)
    blind = replace(tokens, question=tokens.question[:0])
    assert choose_tiles(method, tokens, QUARTERS, 1) == choose_tiles(method, blind, QUARTERS, 1)
    assert choose_salient_tiles(method, tokens, QUARTERS) == [0, 1, 2, 3]


def test_tiles_of_padding_are_never_chosen():
    regions = [torch.empty(0, dtype=torch.long), *QUARTERS[1:]]
    assert choose_tiles(resolve("foveate"), make_tokens(0), regions, 4) == [1, 2, 3]


def test_the_numbers_ascend_and_the_count_holds():
    for count in range(5):
        chosen = choose_tiles(resolve("foveate"), make_tokens(15), QUARTERS, count)
        assert len(chosen) == count
        assert chosen == sorted(chosen)
        assert count == 0 or 3 in chosen


def test_auto_chooses_every_tile_with_something_as_relevant_and_no_other():
    tokens = make_tokens(0)
    tokens.embeds[15] = tokens.embeds[0] + 0.01 * tokens.embeds[15]  # the lower right tile
    assert choose_salient_tiles(resolve("foveate"), tokens, QUARTERS) == [0, 3]
    assert choose_salient_tiles(resolve("foveate"), make_tokens(8), QUARTERS) == [2]


def test_auto_chooses_all_tiles_but_padding_where_more_than_half_are_relevant():
    tokens = make_tokens(0)
    for cell in (3, 15):  # the upper right and the lower right tile
        tokens.embeds[cell] = tokens.embeds[0] + 0.01 * tokens.embeds[cell]
    assert choose_salient_tiles(resolve("foveate"), tokens, QUARTERS) == [0, 1, 2, 3]
    padded = [*QUARTERS[:2], torch.empty(0, dtype=torch.long), QUARTERS[3]]
    assert choose_salient_tiles(resolve("foveate"), tokens, padded) == [0, 1, 3]
    halved = [QUARTERS[0], *[torch.empty(0, dtype=torch.long)] * 2, QUARTERS[3]]
    for cell, chosen in ((15, [0, 3]), (3, [0])):
        some = make_tokens(0)
        some.embeds[cell] = some.embeds[0] + 0.01 * some.embeds[cell]
        assert choose_salient_tiles(resolve("foveate"), some, halved) == chosen


@pytest.mark.parametrize("method", ["foveate", "divprune"])
def test_auto_chooses_all_tiles_but_padding_where_nothing_is_asked(method):
    regions = [torch.empty(0, dtype=torch.long), *QUARTERS[1:]]
    assert choose_salient_tiles(resolve(method), make_tokens(0, question=0), regions) == [1, 2, 3]


def test_regions():
    assert find_region((0, 0, 1, 1), 2, 3).tolist() == [0, 1, 2, 3, 4, 5]
    assert find_region((1 / 3, 0, 2 / 3, 1), 3, 1).tolist() == [1]
    assert find_region((0.1, 0.1, 0.2, 0.2), 2, 2).tolist() == [0]  # a tile smaller than a cell
    assert find_region((0, 0, 0.6, 0.5), 2, 2).tolist() == [0, 2]  # a tile that lies over a part of a cell
    assert find_region((0.5, 0, 0.5, 1), 4, 4).tolist() == []
    assert find_region((1, 0, 1, 1), 4, 4).tolist() == []
    for count in range(1, 8):
        cells = [find_region((n / count, 0, (n + 1) / count, 1), count, 1).tolist() for n in range(count)]
        assert cells == [[n] for n in range(count)]
