import math

import pytest
import torch

from cost import Cost
from foveate.method.selection import TIE, Cosines, farthest
from foveate.method.selection.farthest import FarthestPoint, find_most_isolated


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_all_pairs(x):
    unit = x / x.norm(dim=1, keepdim=True)
    nearest = (unit @ unit.T).fill_diagonal_(-2).amax(1)
    return int((nearest <= nearest.amin() + TIE).nonzero()[0])


def test_most_isolated_is_what_all_pairs_say():
    for n in (2, 3, 255, 256, 257, 600, 1100):
        for seed in range(3):
            random = randn(n, 12, seed=seed)
            clusters = randn(9, 12, seed=seed)[torch.arange(n) % 9] + randn(n, 12, seed=seed + 9) / 5
            copies = randn(n, 12, seed=seed)[torch.arange(n) % (n // 2 + 1)]
            for x in (random, clusters, copies, torch.ones(n, 12)):
                assert find_most_isolated(Cosines(x)).tolist() == [by_all_pairs(x)]
    assert find_most_isolated(Cosines(randn(1, 12))).tolist() == [0]


def test_few_pairs_are_made_where_one_token_is_odd():
    # A plain image with one object in it.
    x = torch.cat([randn(4, 32)[torch.arange(3000) % 4] + randn(3000, 32, seed=1) / 20, randn(1, 32, seed=2)])
    with Cost() as cost:
        assert find_most_isolated(Cosines(x)).tolist() == [3000]
    assert cost.products < 3001 * 3001 * 32 / 3


def distances(x, places, place):
    """`d_ij`, in double precision."""
    unit = torch.nn.functional.normalize(x.double(), dim=1)
    apart = 1 - unit @ unit.T
    if places is None:
        return apart
    squares = (places[:, None] - places[None]).double().square().sum(-1)
    return apart + place * (1 - (-squares / 2).exp())


@pytest.mark.parametrize("place", [None, 0.3])
@pytest.mark.parametrize("block", [2, 256])
def test_gaps_are_distances_to_the_nearest_selected_token(place, block, monkeypatch):
    monkeypatch.setattr(farthest, "BLOCK", block)
    x, weight = randn(12, 6) * 9, randn(12, seed=1).exp()
    places = None if place is None else torch.arange(24.0).reshape(12, 2) / 7
    rule = FarthestPoint(Cosines(x), weight, places, place or 0.0)
    apart = distances(x, places, place)
    assert rule.value()[0].tolist() == [math.inf] * 12
    taken = []
    for more in ([4], [0, 11, 7], [5]):
        taken += more
        rule.take(torch.tensor(more))
        value, slack = rule.value()
        expected = apart[:, taken].amin(1).float() * weight
        expected[taken] = 0
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(slack, TIE * weight, rtol=1e-5, atol=0)
    index = torch.tensor([1, 2, 5, 8])
    few = rule.candidates(index)
    torch.testing.assert_close(torch.tensor(few.apart), apart[index][:, index].float(), rtol=0, atol=1e-5)
    few.take(1)
    rule.take(index[1:2])
    for mine, all_ in zip(few.value(), rule.value(), strict=True):
        torch.testing.assert_close(torch.tensor(mine), all_[index], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.tensor(few.value()[1]), TIE * weight[index], rtol=1e-5, atol=0)


def test_a_duplicate_is_worth_nothing_however_large_its_weight():
    x = torch.tensor([[1.0, 0], [1, 0], [1, 0.01], [0, 1]])
    rule = FarthestPoint(Cosines(x), torch.full((4,), 1e6), None, 0.0)
    rule.gap = torch.tensor([0, TIE * 0.9, TIE * 1.1, 1])
    assert (rule.value()[0] > 0).tolist() == [False, False, True, True]
    few = rule.candidates(torch.arange(4))
    assert (few.value()[0] > 0).tolist() == [False, False, True, True]
    few.take(3)
    assert few.gap.tolist() == pytest.approx([0, TIE * 0.9, TIE * 1.1, 0])


def test_the_first_of_two_equally_isolated_tokens_starts():
    x = torch.eye(6)[[0, 0, 3, 1, 1, 4]]
    assert find_most_isolated(Cosines(x)).tolist() == [2]


def test_all_pairs_are_compared_once_off_the_cpu():
    rows = torch.empty(200, 6, device="meta")
    with Cost() as cost:
        assert find_most_isolated(Cosines(rows)).shape == (1,)
    assert cost.products == 200 * 200 * 6


def test_distances_in_a_large_grid_are_not_blurred():
    places = 1e4 + torch.arange(40.0)[:, None] / 20
    rule = FarthestPoint(Cosines(torch.ones(40, 3)), torch.ones(40), places, 1.0)
    rule.take(torch.arange(30, 40))
    expected = 1 - (-((places[:, 0].double() - places[30, 0].double()) ** 2) / 2).exp()
    torch.testing.assert_close(rule.gap[:30].double(), expected[:30], rtol=0, atol=1e-5)


def test_the_search_begins_all_over_the_image():
    # In the first tokens alone there is one thing only: from them, nothing is known of the others.
    x = randn(12, 32)[torch.arange(3000) // 250] + randn(3000, 32, seed=1) / 20
    x[1234] = randn(32, seed=2)
    with Cost() as cost:
        assert find_most_isolated(Cosines(x)).tolist() == [1234]
    assert cost.products == 2 * 3000 * farthest.PROBES * 32


def test_a_tie_that_is_not_yet_known_is_looked_at():
    # Every second of 128 tokens is compared first: 2 is, 1 is not, and both are as isolated.
    x = torch.eye(3)[:1].repeat(128, 1)
    x[1], x[2] = torch.tensor([0.5, 0.75**0.5, 0]), torch.tensor([0.5, 0, 0.75**0.5])
    assert find_most_isolated(Cosines(x)).tolist() == [1]
