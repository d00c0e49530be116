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


def test_rank_by_hand():
    scores = torch.tensor([0.1, 0.9, 0.9 + 1e-7, -0.5, 0.7])
    assert loop.rank(scores, 1e-6).tolist() == [1, 2, 4, 0, 3]
    assert loop.rank(scores, 0.0).tolist() == [2, 1, 4, 0, 3]
    # A run of neighbours is a tie even where its ends are farther apart than that; the border itself is a tie.
    assert loop.rank(torch.tensor([1.0, 3, 2, 9]), 1.0).tolist() == [3, 0, 1, 2]
    assert loop.rank(torch.tensor([1.0, 3, 2, 9]), torch.tensor(0.9)).tolist() == [3, 1, 2, 0]
    assert loop.rank(torch.empty(0), 1.0).tolist() == []


def test_find_first():
    assert loop.find_first(torch.tensor([False, True, False, True])).tolist() == [1]
    assert loop.find_first(torch.tensor([[True]])[0]).shape == (1,)


class Fading:
    """Values that fall by `loss` for the neighbours of a selected token; within `slack` is a tie."""

    def __init__(self, values, loss=0.0, slack=0.0):
        self.values, self.loss, self.slack, self.taken = values.clone(), loss, slack, []

    def value(self):
        return self.values.clone(), torch.full_like(self.values, self.slack)

    def take(self, index):
        self.taken += index.tolist()
        for i in index.tolist():
            self.values[max(0, i - 1) : i + 2] -= self.loss

    def candidates(self, index):
        return FadingFew(self, index.tolist())


class FadingFew:
    def __init__(self, rule, index):
        self.index, self.rule = index, Fading(rule.values, rule.loss, rule.slack)

    def value(self):
        value, slack = self.rule.value()
        return value[self.index].numpy(), slack[self.index].numpy()

    def take(self, place):
        self.rule.take(torch.tensor([self.index[place]]))


def slow_greedy(rule, k, free):
    picked = []
    for _ in range(k):
        value, slack = (part.tolist() for part in rule.value())
        left = [i for i in range(len(value)) if free[i] and i not in picked]
        best = max(value[i] for i in left)
        picked.append(min(i for i in left if value[i] + slack[i] >= best))
        rule.take(torch.tensor(picked[-1:]))
    return picked


@pytest.mark.parametrize("candidates", [0, 1, 2, 10])
@pytest.mark.parametrize(("loss", "slack"), [(0.0, 0.0), (0.375, 0.0), (0.375, 0.125), (3.0, 0.25)])
def test_the_loop_selects_in_the_order_of_the_values(candidates, loss, slack, monkeypatch):
    monkeypatch.setattr(loop, "CANDIDATES", candidates)
    for seed in range(5):
        values = torch.randint(0, 12, (60,), generator=torch.Generator().manual_seed(seed)) / 8  # exact
        free = torch.arange(60) % 7 != seed
        for k in (0, 1, 9, 45):
            expected = slow_greedy(Fading(values, loss, slack), k, free.tolist())
            for way in (loop.select_in_steps, loop.select_in_blocks, loop.select_greedily):
                rule, mask = Fading(values, loss, slack), free.clone()
                assert way(rule, k, mask).tolist() == expected
                assert rule.taken == expected
                assert torch.equal(mask, free)


def test_blocks_are_for_the_cpu(monkeypatch):
    monkeypatch.setattr(loop, "select_in_blocks", lambda *_: "blocks")
    monkeypatch.setattr(loop, "select_in_steps", lambda *_: "steps")
    assert loop.select_greedily(None, 1, torch.ones(3, dtype=torch.bool)) == "blocks"
    assert loop.select_greedily(None, 1, torch.ones(3, dtype=torch.bool, device="meta")) == "steps"


def test_candidates_are_twice_the_root_of_n_and_those_in_front(monkeypatch):
    indices, right = [], loop._select_certain
    monkeypatch.setattr(loop, "_select_certain", lambda *args: indices.append(args[1]) or right(*args))
    values = torch.arange(100.0)
    values[3] = 99
    loop.select_in_blocks(Fading(values), 1, torch.ones(100, dtype=torch.bool))
    assert indices[0].tolist() == [3, *range(80, 100)]


def test_only_what_is_certain_is_selected_in_a_block():
    index = torch.tensor([2, 3, 8])
    free = torch.ones(10, dtype=torch.bool)

    def certain(values, outside, k=3, slack=0.0, free=free):
        rule = Fading(torch.zeros(10), slack=slack)
        rule.values[index] = torch.tensor(values)
        rest = torch.full((10,), -torch.inf)
        for i, value in outside.items():
            rest[i] = value
        return loop._select_certain(rule.candidates(index), index, k, free, rest, torch.full((10,), slack)).tolist()

    # `Fading` without a loss never lowers a value, so a selected candidate must not be selected again.
    assert certain([3.0, 2, 1], {}) == [2, 3, 8]
    assert certain([1.0, 2, 3], {}) == [8, 3, 2]
    assert certain([3.0, 2, 1], {}, k=2) == [2, 3]
    assert certain([3.0, 2, 1], {5: 1.5}) == [2, 3]
    assert certain([3.0, 2, 1], {5: 3.5}) == []
    assert certain([3.0, 2, 1], {}, free=torch.arange(10) != 3) == [2, 8]
    # An equal token outside comes first where its index is lower.
    assert certain([3.0, 2, 1], {5: 2.0}) == [2, 3]
    assert certain([3.0, 2, 1], {0: 2.0}) == [2]
    # Within the slack is a tie: 3 before 8; and a token outside that ties, before what it precedes.
    assert certain([1.0, 2, 2.1], {}, slack=0.2) == [3, 8, 2]
    assert certain([3.0, 2, 1], {0: 1.9}, slack=0.2) == [2]
    assert certain([3.0, 2, 1], {5: 2.1}, slack=0.2) == [2, 3]
    assert certain([3.0, 2, 1], {5: 2.3}, slack=0.2) == [2]


class Doubting(Fading):
    """Its candidates' own values are too low, so that none of them is certain."""

    def candidates(self, index):
        few = FadingFew(self, index.tolist())
        few.rule.values -= 100
        return few


def test_every_block_selects_a_token():
    values = torch.arange(60.0) % 13
    free = torch.ones(60, dtype=torch.bool)
    expected = slow_greedy(Fading(values), 9, free.tolist())
    assert loop.select_in_blocks(Doubting(values), 9, free).tolist() == expected
