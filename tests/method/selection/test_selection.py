from itertools import pairwise

import pytest
import torch

from foveate.errors import InputError
from foveate.method.selection import (
    TIE,
    FarthestProblem,
    kernel,
    select_coverage,
    select_dpp,
    select_farthest,
    select_log_volume,
    select_top_k,
)
from foveate.method.selection.loop import select_greedily

NONE = torch.empty(0, dtype=torch.long)


def farthest_point(x, k, selected):
    return select_farthest([FarthestProblem(x, k, selected)])[0]


def weighted_farthest_point(x, weight, k, selected, places=None, place=0.0):
    return select_farthest([FarthestProblem(x, k, selected, weight, places, place)])[0]


def selected(*indices):
    return torch.tensor(indices, dtype=torch.long)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Weights:
    """A whole matrix."""

    def __init__(self, matrix):
        self.matrix, self.height = matrix, len(matrix)

    def rows(self, index):
        return self.matrix.index_select(0, index)

    def column(self, index):
        return self.matrix.index_select(1, index).squeeze(1)


def covering(matrix, k, selected):
    return select_coverage(Weights(matrix), k, selected, value=torch.ones_like(matrix[0]))


RULES = {
    "top_k": lambda x, k, selected: select_top_k(x[:, 0], k, selected),
    "farthest_point": farthest_point,
    "weighted_farthest_point": lambda x, k, selected: weighted_farthest_point(x, x[:, 0].abs().exp(), k, selected),
    "dpp": lambda x, k, selected: select_dpp(x, x[:, 0].abs(), k, selected),
    "log_volume": lambda x, k, selected: select_log_volume(x, x[:, 0], k, selected, share=0.5, ridge=0.01),
    "coverage": lambda x, k, selected: covering((x @ x.T).abs(), k, selected),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


@every_rule
def test_k_new_ascending(rule):
    x = randn(30, 6)
    for k, taken in [
        (0, NONE),
        (0, selected(3)),
        (1, NONE),
        (7, NONE),
        (30, NONE),
        (7, selected(9, 2)),
        (28, selected(9, 2)),
    ]:
        chosen = rule(x, k, taken).tolist()
        assert len(chosen) == k
        assert chosen == sorted(set(chosen) - set(taken.tolist()))


@every_rule
def test_no_room_is_an_error(rule):
    for k, taken in [(31, NONE), (29, selected(9, 2)), (-1, NONE)]:
        with pytest.raises(InputError, match="choose fewer"):
            rule(randn(30, 6), k, taken)


@every_rule
def test_nothing_is_read_back_from_the_device(rule):
    # A meta tensor has no values: any .item(), bool() or value-dependent shape raises.
    for taken in (NONE.to("meta"), selected(9, 2).to("meta")):
        assert rule(torch.empty(700, 6, device="meta"), 12, taken).shape == (12,)


@every_rule
def test_the_default_device_does_not_matter(rule):
    x, taken = randn(300, 6), selected(9, 2)
    expected = rule(x, 12, taken), rule(x, 12, NONE)
    with torch.device("meta"):  # what is not made on the device of the inputs has no values
        chosen = rule(x, 12, taken), rule(x, 12, NONE)
    assert [c.tolist() for c in chosen] == [e.tolist() for e in expected]


@every_rule
def test_ties_go_to_the_lowest_index(rule):
    assert rule(torch.ones(9, 6), 4, selected(1)).tolist() == [0, 2, 3, 4]
    assert rule(torch.ones(9, 6), 4, NONE).tolist() == [0, 1, 2, 3]


def test_top_k_by_hand():
    scores = torch.tensor([0.1, 0.9, 0.9, -0.5, 0.7])
    assert select_top_k(scores, 1, NONE).tolist() == [1]
    assert select_top_k(scores, 3, NONE).tolist() == [1, 2, 4]
    assert select_top_k(scores, 2, selected(1)).tolist() == [2, 4]
    assert select_top_k(-scores, 2, NONE).tolist() == [0, 3]


def test_top_k_takes_what_float32_cannot_tell_for_a_tie():
    assert select_top_k(torch.tensor([0.5, 0.5 + TIE / 2]), 1, NONE).tolist() == [0]
    assert select_top_k(torch.tensor([0.5, 0.5 + 3 * TIE]), 1, NONE).tolist() == [1]


def test_farthest_point_runs_a_maximum_not_a_minimum():
    x = torch.tensor([[1.0, 0], [0.99, 0.1], [-1.0, 0], [-0.99, 0.1], [0, 1]])
    # From 0 the farthest is 2, then 4. A running minimum would look for what is far from *some* kept token: 1 or 3.
    assert farthest_point(x, 2, selected(0)).tolist() == [2, 4]


def test_farthest_point_beats_random_at_its_own_aim():
    x = randn(300, 8)
    unit = x / x.norm(dim=1, keepdim=True)
    chosen = farthest_point(x, 30, NONE)

    def worst(rows):
        return (unit[rows] @ unit[rows].T).fill_diagonal_(-1).max()

    assert all(worst(chosen) < worst(torch.randperm(300)[:30]) for _ in range(20))


def test_farthest_point_across_blocks():
    # More rows than one block of the start, and more selected than one; the isolated token stands in the last.
    x = torch.cat([randn(650, 4).abs(), -torch.ones(1, 4), randn(10, 4, seed=1).abs()])
    assert farthest_point(x, 1, NONE).tolist() == [650]
    many = torch.arange(600)
    assert 650 in farthest_point(x, 3, many)


def test_dpp_greedy_maximises_the_determinant():
    for seed in range(20):
        x, r = randn(12, 8, seed=seed), randn(12, seed=100 + seed).abs()
        unit = (x / x.norm(dim=1, keepdim=True)).double()
        kernel = r[:, None] * (unit @ unit.T) * r
        kept = []
        for _ in range(5):
            volume = {j: torch.det(kernel[[*kept, j]][:, [*kept, j]]) for j in range(12) if j not in kept}
            kept.append(max(volume, key=volume.get))
        assert select_dpp(x, r, 5, NONE).tolist() == sorted(kept)
        assert select_dpp(x, r, 3, selected(*kept[:2])).tolist() == sorted(kept[2:])


def test_dpp_out_of_rank_goes_by_relevance():
    x = torch.eye(2).repeat(4, 1)
    relevance = torch.tensor([0.1, 0.2, 0.9, 0.8, 0.9, 0.3, 0.5, 0.5])
    assert select_dpp(x, relevance, 2, NONE).tolist() == [2, 3]
    assert select_dpp(x, relevance, 4, NONE).tolist() == [2, 3, 4, 6]
    assert select_dpp(torch.zeros(8, 3), relevance, 3, NONE).tolist() == [2, 3, 4]
    assert select_dpp(x, 3000 * relevance, 5, NONE).tolist() == [2, 3, 4, 6, 7]
    assert select_dpp(x, torch.zeros(8), 4, NONE).tolist() == [0, 1, 2, 3]


def test_dpp_is_exact_far_into_a_nearly_dependent_set():
    # Two bundles of nearly parallel tokens: the residuals fall to 1e-3, and duplicates must still be distinguished.
    x = torch.cat([torch.eye(40)[0] + 0.03 * randn(20, 40), torch.eye(40)[1] + 0.03 * randn(20, 40, seed=1)])
    chosen = select_dpp(x.repeat(2, 1), torch.ones(80), 40, NONE).tolist()
    assert len({i % 40 for i in chosen}) == 40
    assert max(chosen) < 40


def test_coverage_by_hand():
    weights = torch.tensor([[3.0, 2, 0, 0], [0, 2, 0, 0], [0, 0, 1, 1]])
    assert covering(weights, 1, NONE).tolist() == [1]  # 2 + 2 against 3
    assert covering(weights, 2, NONE).tolist() in ([0, 1], [1, 2])
    assert covering(weights, 1, selected(1)).tolist() == [0]  # a gain of 1, as 2 and 3 have
    assert covering(weights, 1, selected(1, 0)).tolist() == [2]
    assert covering(weights, 1, selected(0)).tolist() == [1]  # 2 (its second row), nothing in the first


def test_coverage_is_monotone_and_submodular_enough():
    weights = randn(25, 30).abs()
    values = [weights[:, covering(weights, k, NONE)].amax(1).sum().item() for k in range(1, 31)]
    gains = [b - a for a, b in pairwise(values)]
    assert all(a + 1e-4 >= b >= -1e-4 for a, b in pairwise(gains))


def test_rules_leave_their_inputs_alone():
    x, taken = randn(30, 6), selected(4, 1)
    copy, scores = x.clone(), randn(30)
    weights = randn(5, 30).abs()
    kept = weights.clone()
    for rule in RULES.values():
        rule(x, 5, taken)
    covering(weights, 5, taken)
    select_dpp(x, scores, 5, taken)
    assert torch.equal(x, copy)
    assert torch.equal(weights, kept)
    assert torch.equal(scores, randn(30))
    assert taken.tolist() == [4, 1]


def test_weighted_farthest_point_by_hand():
    x, weight = torch.eye(5), torch.tensor([1.0, 3, 2, 1, 5])
    for k, expected in ((1, [4]), (2, [1, 4]), (3, [1, 2, 4]), (4, [0, 1, 2, 4])):
        assert weighted_farthest_point(x, weight, k, NONE).tolist() == expected
    assert weighted_farthest_point(x, weight, 1, selected(4)).tolist() == [1]
    # Weights within TIE of the largest, in proportion to it, may start.
    for scale in (1.0, 1000.0, 0.001):
        assert weighted_farthest_point(x, scale * torch.tensor([1, 1 + 0.5 * TIE, 0, 0, 0]), 1, NONE).tolist() == [0]
        assert weighted_farthest_point(x, scale * torch.tensor([1, 1 + 3 * TIE, 0, 0, 0]), 1, NONE).tolist() == [1]


def test_places_tell_what_looks_alike_apart():
    x, weight = torch.ones(4, 3), torch.tensor([1.1, 1, 1, 1])
    places = torch.tensor([[0.0], [0.1], [3], [0.2]])
    assert weighted_farthest_point(x, weight, 2, NONE, places, 0.5).tolist() == [0, 2]
    assert weighted_farthest_point(x, weight, 3, NONE, places, 0.5).tolist() == [0, 2, 3]
    assert weighted_farthest_point(x, weight, 2, NONE).tolist() == [0, 1]


def test_a_gpu_gets_all_problems_in_one_launch(monkeypatch):
    problems = [FarthestProblem(randn(20, 6), 5, NONE), FarthestProblem(randn(9, 6, seed=1), 3, selected(2, 4))]
    expected = [select_farthest([problem])[0].tolist() for problem in problems]
    launches = []

    def launch(rules, counts, free):
        launches.append(list(counts))
        return [select_greedily(*each) for each in zip(rules, counts, free, strict=True)]

    monkeypatch.setattr(kernel, "is_usable", lambda rule: rule.gap.shape in ((20,), (9,)))
    monkeypatch.setattr(kernel, "launch_many", launch)
    assert [chosen.tolist() for chosen in select_farthest(problems)] == expected
    assert launches == [[4, 3]]  # the first starts by itself
    assert select_farthest([]) == []


def test_log_volume_greedy_maximises_its_objective():
    for seed in range(20):
        x, bonus = randn(12, 8, seed=seed), randn(12, seed=100 + seed)
        unit = torch.nn.functional.normalize(x.double(), dim=1)
        kept = []
        for _ in range(6):
            values = {}
            for j in (j for j in range(12) if j not in kept):
                rows = unit[[*kept, j]]
                volume = torch.logdet(rows @ rows.T + 0.05 * torch.eye(len(rows)))
                values[j] = 0.3 * bonus[[*kept, j]].sum() + 0.7 * volume
            kept.append(max(values, key=values.get))
        assert select_log_volume(x, bonus, 6, NONE, share=0.7, ridge=0.05).tolist() == sorted(kept)
        assert select_log_volume(x, bonus, 3, selected(*kept[:3]), share=0.7, ridge=0.05).tolist() == sorted(kept[3:])


def test_log_volume_ties_are_those_of_both_terms():
    # Both tokens add as much volume: half of the difference of their bonuses is the difference of their values.
    for difference, expected in ((1.6 * TIE, [0]), (3 * TIE, [1])):
        bonus = torch.tensor([0, difference])
        assert select_log_volume(torch.eye(2), bonus, 1, NONE, share=0.5, ridge=0.01).tolist() == expected
