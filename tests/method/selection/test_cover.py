import pytest
import torch

from foveate.method import select
from foveate.method.selection import cover
from foveate.method.selection.cover import COVER_TIE, Coverage


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Matrix:
    """A whole matrix, as `Weights`, that records which rows are computed."""

    def __init__(self, matrix):
        self.matrix, self.height, self.computed, self.columns = matrix, len(matrix), [], 0

    def rows(self, index):
        self.computed.append(index.tolist() if index.device.type == "cpu" else None)
        return self.matrix.index_select(0, index)

    def column(self, index):
        self.columns += 1
        return self.matrix.index_select(1, index).squeeze(1)


def gains(matrix, taken):
    best = matrix[:, taken].amax(1, keepdim=True) if taken else torch.zeros(len(matrix), 1)
    return (matrix - best).clamp(min=0).sum(0)


@pytest.mark.parametrize("method", ["mmtok", "scope"])
def test_a_matrix_that_is_not_stored_gives_the_same_choice(method, monkeypatch):
    for seed in range(10):
        x = randn(20, 16, seed=seed)[torch.arange(300) % 20] + randn(300, 16, seed=seed + 50) / 2
        attention = randn(300, seed=seed).softmax(0)
        settings = {"k": 60, "method": method, "encoder": x, "cls_attention": attention}
        kept = select(x, randn(5, 16, seed=seed), **settings)
        with monkeypatch.context() as patch:
            patch.setattr(cover, "MATRIX_BYTES", 0)
            patch.setattr(cover, "BLOCK", 7)
            assert torch.equal(select(x, randn(5, 16, seed=seed), **settings), kept)


@pytest.mark.parametrize("way", ["stored", "not stored", "as on an accelerator"])
def test_gains_are_those_of_their_definition(way, monkeypatch):
    monkeypatch.setattr(cover, "MATRIX_BYTES", 0 if way == "not stored" else cover.MATRIX_BYTES)
    monkeypatch.setattr(cover, "BLOCK", 7)
    matrix, worth = randn(50, 30).abs(), randn(30, seed=1).abs() + 0.1
    weights = Matrix(matrix)
    rule = Coverage(weights, worth)
    assert (rule.matrix is None) == (way == "not stored")
    rule.on_host = way != "as on an accelerator"
    taken = []
    for more in ([], [3], [29, 0], [7]):
        taken += more
        rule.take(torch.tensor(more, dtype=torch.long))
        value, slack = rule.value()
        torch.testing.assert_close(value.float(), gains(matrix, taken) * worth, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(slack.float(), COVER_TIE * matrix.sum(0) * worth)
        assert not value[taken].any()
        assert value.dtype == (torch.float32 if way == "as on an accelerator" and taken else torch.float64)
    assert weights.columns == (len(taken) if way == "not stored" else 0)
    assert way == "not stored" or len(weights.computed) == 8  # blocks of 7 of the 50 rows, once


def test_a_gain_within_the_tie_is_nothing():
    matrix = torch.tensor([[1.0, 1 + 0.9 * COVER_TIE, 1 + 1.2 * COVER_TIE], [0, 0, 0]])
    rule = Coverage(Matrix(matrix), torch.full((3,), 1000.0))
    rule.take(torch.tensor([0]))
    value, _ = rule.value()
    assert value[:2].tolist() == [0, 0]
    assert value[2] == pytest.approx(1200 * COVER_TIE, rel=0.05)


def test_a_matrix_up_to_the_limit_is_stored(monkeypatch):
    for limit, stored in ((4 * 5 * 3, True), (4 * 5 * 3 - 1, False)):
        monkeypatch.setattr(cover, "MATRIX_BYTES", limit)
        assert (Coverage(Matrix(torch.ones(5, 3)), torch.ones(3)).matrix is not None) == stored


def test_only_rows_that_are_covered_better_are_computed_again(monkeypatch):
    monkeypatch.setattr(cover, "MATRIX_BYTES", 0)
    matrix = torch.ones(9, 4)
    matrix[[2, 5], 1] = 2
    weights = Matrix(matrix)
    rule = Coverage(weights, torch.ones(4))
    assert weights.computed == [list(range(9))]
    rule.take(torch.tensor([0]))
    rule.take(torch.tensor([1]))
    rule.take(torch.tensor([2]))
    assert [rows for rows in weights.computed[1:] if rows] == [list(range(9)), [2, 5]]


def test_accelerators_need_no_float64():
    assert Coverage(Matrix(torch.ones(5, 3, device="meta")), torch.ones(3, device="meta")).gain.dtype == torch.float32
