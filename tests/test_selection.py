from itertools import pairwise

import pytest
import torch

from foveate import selection
from foveate.errors import InputError
from foveate.selection import TIE, coverage, dpp, farthest_point, top_k, weighted_farthest_point

NONE = torch.empty(0, dtype=torch.long)


def given(*indices):
    return torch.tensor(indices, dtype=torch.long)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


RULES = {
    "top_k": lambda x, k, given: top_k(x[:, 0], k, given),
    "farthest_point": farthest_point,
    "weighted_farthest_point": lambda x, k, given: weighted_farthest_point(x, x[:, 0].abs().exp(), k, given),
    "dpp": lambda x, k, given: dpp(x, x[:, 0].abs(), k, given),
    "coverage": lambda x, k, given: coverage((x @ x.T).abs(), k, given),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


@every_rule
def test_k_new_ascending(rule):
    x = randn(30, 6)
    for k, taken in [(0, NONE), (0, given(3)), (1, NONE), (7, NONE), (30, NONE), (7, given(9, 2)), (28, given(9, 2))]:
        chosen = rule(x, k, taken).tolist()
        assert len(chosen) == k
        assert chosen == sorted(set(chosen) - set(taken.tolist()))


@every_rule
def test_no_room_is_an_error(rule):
    for k, taken in [(31, NONE), (29, given(9, 2)), (-1, NONE)]:
        with pytest.raises(InputError, match="choose fewer"):
            rule(randn(30, 6), k, taken)


@every_rule
def test_nothing_is_read_back_from_the_device(rule):
    # A meta tensor has no values: any .item(), bool() or value-dependent shape raises.
    for taken in (NONE.to("meta"), given(9, 2).to("meta")):
        assert rule(torch.empty(700, 6, device="meta"), 12, taken).shape == (12,)


@every_rule
def test_ties_go_to_the_lowest_index(rule):
    assert rule(torch.ones(9, 6), 4, given(1)).tolist() == [0, 2, 3, 4]


@pytest.mark.parametrize("ahead", [1, 3, 1000])
@pytest.mark.parametrize("rule", ["farthest_point", "weighted_farthest_point"])
def test_rows_made_ahead_change_nothing(rule, ahead, monkeypatch):
    """A row at a time is what runs on an accelerator."""
    for seed in range(20):
        x, taken = randn(60, 5, seed=seed), given(*range(seed % 4))
        expected = RULES[rule](x, 25, taken)
        with monkeypatch.context() as patch:
            patch.setattr(selection, "AHEAD", ahead)
            assert torch.equal(RULES[rule](x, 25, taken), expected)
            patch.setattr(selection._Rows, "of", lambda self, pick, _: self.unit @ self.unit[pick[0]])
            assert torch.equal(RULES[rule](x, 25, taken), expected)


def test_most_rows_are_there_before_they_are_asked_for(monkeypatch):
    passes, right = [], selection._Rows.of

    def counted(self, pick, promise):
        passes.append(int(pick) not in self.made)
        return right(self, pick, promise)

    monkeypatch.setattr(selection._Rows, "of", counted)
    x = randn(20, 64)[torch.arange(800) % 20] + randn(800, 64, seed=1) / 2
    weighted_farthest_point(x, x[:, 0].abs().exp(), 160, NONE)
    assert len(passes) == 160
    assert sum(passes) < 40


def test_top_k_by_hand():
    scores = torch.tensor([0.1, 0.9, 0.9, -0.5, 0.7])
    assert top_k(scores, 1, NONE).tolist() == [1]
    assert top_k(scores, 3, NONE).tolist() == [1, 2, 4]
    assert top_k(scores, 2, given(1)).tolist() == [2, 4]
    assert top_k(-scores, 2, NONE).tolist() == [0, 3]


def test_top_k_takes_what_float32_cannot_tell_for_a_tie():
    assert top_k(torch.tensor([0.5, 0.5 + TIE / 2]), 1, NONE).tolist() == [0]
    assert top_k(torch.tensor([0.5, 0.5 + 3 * TIE]), 1, NONE).tolist() == [1]


def test_farthest_point_runs_a_maximum_not_a_minimum():
    x = torch.tensor([[1.0, 0], [0.99, 0.1], [-1.0, 0], [-0.99, 0.1], [0, 1]])
    # From 0 the farthest is 2, then 4. A running minimum would look for what is far from *some* kept token: 1 or 3.
    assert farthest_point(x, 2, given(0)).tolist() == [2, 4]


def test_farthest_point_beats_random_at_its_own_aim():
    x = randn(300, 8)
    unit = x / x.norm(dim=1, keepdim=True)
    chosen = farthest_point(x, 30, NONE)

    def worst(rows):
        return (unit[rows] @ unit[rows].T).fill_diagonal_(-1).max()

    assert all(worst(chosen) < worst(torch.randperm(300)[:30]) for _ in range(20))


def test_farthest_point_start_across_blocks():
    # More rows than one block of the start; the isolated token stands in the last.
    x = torch.cat([randn(650, 4).abs(), -torch.ones(1, 4), randn(10, 4, seed=1).abs()])
    assert farthest_point(x, 1, NONE).tolist() == [650]
    many = torch.arange(600)
    assert 650 in farthest_point(x, 3, many)


def test_farthest_point_memory_stays_small(monkeypatch):
    largest = 0
    multiply = torch.Tensor.__matmul__

    def watch(left, right):
        nonlocal largest
        product = multiply(left, right)
        largest = max(largest, product.numel())
        return product

    monkeypatch.setattr(torch.Tensor, "__matmul__", watch)
    farthest_point(randn(2000, 2), 3, NONE)
    assert largest <= 2000 * 256


def test_dpp_greedy_maximises_the_determinant():
    for seed in range(20):
        x, r = randn(12, 8, seed=seed), randn(12, seed=100 + seed).abs()
        unit = (x / x.norm(dim=1, keepdim=True)).double()
        kernel = r[:, None] * (unit @ unit.T) * r
        kept = []
        for _ in range(5):
            volume = {j: torch.det(kernel[[*kept, j]][:, [*kept, j]]) for j in range(12) if j not in kept}
            kept.append(max(volume, key=volume.get))
        assert dpp(x, r, 5, NONE).tolist() == sorted(kept)
        assert dpp(x, r, 3, given(*kept[:2])).tolist() == sorted(kept[2:])


def test_dpp_out_of_rank_goes_by_relevance():
    x = torch.eye(2).repeat(4, 1)
    relevance = torch.tensor([0.1, 0.2, 0.9, 0.8, 0.9, 0.3, 0.5, 0.5])
    assert dpp(x, relevance, 2, NONE).tolist() == [2, 3]
    assert dpp(x, relevance, 4, NONE).tolist() == [2, 3, 4, 6]
    assert dpp(torch.zeros(8, 3), relevance, 3, NONE).tolist() == [2, 3, 4]
    assert dpp(x, torch.zeros(8), 4, NONE).tolist() == [0, 1, 2, 3]


def test_dpp_is_exact_far_into_a_nearly_dependent_set():
    # Two bundles of nearly parallel tokens: the residuals fall to 1e-3, and duplicates must still be told from them.
    x = torch.cat([torch.eye(40)[0] + 0.03 * randn(20, 40), torch.eye(40)[1] + 0.03 * randn(20, 40, seed=1)])
    chosen = dpp(x.repeat(2, 1), torch.ones(80), 40, NONE).tolist()
    assert len({i % 40 for i in chosen}) == 40
    assert max(chosen) < 40


def test_coverage_by_hand():
    weights = torch.tensor([[3.0, 2, 0, 0], [0, 2, 0, 0], [0, 0, 1, 1]])
    assert coverage(weights, 1, NONE).tolist() == [1]  # 2 + 2 against 3
    assert coverage(weights, 2, NONE).tolist() in ([0, 1], [1, 2])
    assert coverage(weights, 1, given(1)).tolist() == [0]  # a gain of 1, as 2 and 3 have
    assert coverage(weights, 1, given(1, 0)).tolist() == [2]
    assert coverage(weights, 1, given(0)).tolist() == [1]  # 2 (its second row), nothing in the first


def test_coverage_is_monotone_and_submodular_enough():
    weights = randn(25, 30).abs()
    values = [weights[:, coverage(weights, k, NONE)].amax(1).sum().item() for k in range(1, 31)]
    gains = [b - a for a, b in pairwise(values)]
    assert all(a + 1e-4 >= b >= -1e-4 for a, b in pairwise(gains))


def test_rules_leave_their_inputs_alone():
    x, taken = randn(30, 6), given(4, 1)
    copy, scores = x.clone(), randn(30)
    weights = randn(5, 30).abs()
    kept = weights.clone()
    for rule in RULES.values():
        rule(x, 5, taken)
    coverage(weights, 5, taken)
    dpp(x, scores, 5, taken)
    assert torch.equal(x, copy)
    assert torch.equal(weights, kept)
    assert torch.equal(scores, randn(30))
    assert taken.tolist() == [4, 1]
