"""Candidates looked at among themselves change nothing: as many at a time as are certain = one by one."""

import pytest
import torch

from foveate.method import selection
from foveate.method.selection import FarthestProblem, loop, select_dpp, select_farthest, select_log_volume

NONE = torch.empty(0, dtype=torch.long)


def farthest_point(x, k, selected):
    return select_farthest([FarthestProblem(x, k, selected)])[0]


def weighted_farthest_point(x, weight, k, selected, places=None, place=0.0):
    return select_farthest([FarthestProblem(x, k, selected, weight, places, place)])[0]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grid(n):
    side = int(n**0.5)
    return torch.cartesian_prod(torch.arange(side), torch.arange(side)).float()


def placed(x, k, selected):
    """As the default method: places, and a weight that prefers a corner."""
    places = grid(len(x)) / 3
    return weighted_farthest_point(x, (-places.sum(1) / 9).exp(), k, selected, places=places, place=0.2)


def heights(x):
    return x[:, 0] / x.norm(dim=1).clamp(min=1)  # the same for copies of any length


RULES = {
    "farthest_point": farthest_point,
    "weighted": lambda x, k, selected: weighted_farthest_point(x, x[:, 0].abs().exp(), k, selected),
    "placed": placed,
    "dpp": lambda x, k, selected: select_dpp(x, x[:, 0].abs(), k, selected),
    "log_volume": lambda x, k, selected: select_log_volume(
        x, x[:, 0] / x.norm(dim=1).clamp(min=1), k, selected, share=0.7, ridge=0.01
    ),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)

IMAGES = {
    "random": lambda seed: randn(400, 12, seed=seed),
    "clusters": lambda seed: randn(15, 64, seed=seed)[torch.arange(400) % 15] + randn(400, 64, seed=seed + 50) / 3,
    "copies": lambda seed: randn(37, 24, seed=seed)[torch.arange(400) % 37],
    "copies that rounding tells apart": lambda seed: (
        randn(37, 24, seed=seed)[torch.arange(400) % 37] * (1 + randn(400, 1, seed=seed + 50) * 1e-3)
    ),
    "blank but for a few": lambda seed: torch.cat([torch.ones(390, 24), randn(10, 24, seed=seed)]),
    "blank": lambda seed: torch.ones(400, 24),
    "zeros": lambda seed: torch.zeros(400, 24),
    "narrow": lambda seed: randn(400, 24, seed=seed) * (torch.arange(24) < 3),
}


@every_rule
@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_blocks_choose_what_steps_choose(rule, image, monkeypatch):
    for seed in range(4):
        x, taken = image(seed), torch.arange(seed * 3) * 7
        chosen = rule(x, 90, taken)
        with monkeypatch.context() as patch:
            patch.setattr(selection, "select_greedily", loop.select_in_steps)
            assert torch.equal(rule(x, 90, taken), chosen)


@every_rule
@pytest.mark.parametrize("share", [0, 0.3, 10_000])
def test_any_number_of_candidates_will_do(rule, share, monkeypatch):
    x = IMAGES["clusters"](0)
    expected = rule(x, 90, NONE)
    monkeypatch.setattr(loop, "CANDIDATES", share)
    assert torch.equal(rule(x, 90, NONE), expected)


@pytest.mark.parametrize(
    ("rule", "image"),
    [
        (rule, image)
        for rule in RULES
        for image in ("clusters", "blank but for a few", "blank")
        if rule != "log_volume" or image == "clusters"  # a copy's volume falls a little with every other copy chosen
    ],
)
def test_many_are_certain_at_a_time(rule, image, monkeypatch):
    sizes, right = [], loop._select_certain

    def counted(*args):
        block = right(*args)
        sizes.append(len(block))
        return block

    monkeypatch.setattr(loop, "_select_certain", counted)
    x = IMAGES[image](0)
    RULES[rule](x, 90, NONE)
    assert len(sizes) <= 30
