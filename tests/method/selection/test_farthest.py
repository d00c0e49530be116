import torch

from cost import Cost
from foveate.method.selection import TIE, Cosines
from foveate.method.selection.farthest import find_most_isolated


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
