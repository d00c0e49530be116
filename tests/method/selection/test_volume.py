import pytest
import torch

from foveate.method.selection import Cosines, volume
from foveate.method.selection.volume import SPENT, Volume


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def worth(rest, *data):
    return rest, *data


def residuals(x, taken, ridge):
    """Schur complements of the ridged kernel, in double precision."""
    unit = torch.nn.functional.normalize(x.double(), dim=1)
    kernel = unit @ unit.T + ridge * torch.eye(len(x), dtype=torch.double)
    inverse = torch.linalg.pinv(kernel[taken][:, taken], hermitian=True, rtol=1e-9)
    rest = kernel.diagonal() - (kernel[:, taken] @ inverse * kernel[:, taken]).sum(1)
    # A selected token counts like its copy: with its cosine to itself, without the ridge.
    for i in taken:
        column = (unit @ unit[i])[taken]
        rest[i] = kernel[i, i] - column @ inverse @ column
    return rest.clamp(min=ridge)


@pytest.mark.parametrize("ridge", [0.0, 0.05])
@pytest.mark.parametrize("block", [2, 256])
def test_rest_is_the_squared_residual(ridge, block, monkeypatch):
    monkeypatch.setattr(volume, "BLOCK", block)
    x = randn(12, 8) * 30
    x[9] = x[2] * 3
    rule = Volume(Cosines(x), 7, worth, torch.arange(12.0), ridge=ridge)
    taken = []
    for more in ([], [2], [5, 0, 11], [7, 1, 3]):
        taken += more
        rule.take(torch.tensor(more, dtype=torch.long))
        rest, data = rule.value()
        free = [i for i in range(12) if i not in taken]
        torch.testing.assert_close(rest[free].double(), residuals(x, taken, ridge)[free], rtol=1e-4, atol=2e-6)
        assert data.tolist() == list(range(12))
        assert float(rest.min()) >= ridge
    basis = rule.basis
    assert basis.shape == (7, 8 + (7 if ridge else 0))
    torch.testing.assert_close(basis @ basis.T, torch.eye(7), rtol=0, atol=1e-5)


def test_a_row_of_zeros_has_no_volume():
    rest, _ = Volume(Cosines(torch.tensor([[0.0, 0], [3, 4]])), 1, worth, torch.ones(2)).value()
    torch.testing.assert_close(rest, torch.tensor([0.0, 1]))


def test_a_direction_that_is_spent_changes_nothing():
    near = (SPENT / 4) ** 0.5
    rule = Volume(Cosines(torch.tensor([[1.0, 0], [1, near], [0, 1]])), 3, worth, torch.ones(3))
    rule.take(torch.tensor([0]))
    before = rule.value()[0].clone()
    rule.take(torch.tensor([1]))
    assert torch.equal(rule.value()[0], before)
    assert before[2] == 1
    rule.take(torch.tensor([2]))
    assert rule.value()[0][2] < 1e-6
    assert rule.size == 3


@pytest.mark.parametrize("ridge", [0.0, 0.05])
def test_candidates_are_the_rule_on_a_few_tokens(ridge):
    x, index = randn(12, 8), torch.tensor([1, 4, 5, 9, 10])
    x[9] = x[4]
    rule = Volume(Cosines(x), 6, worth, randn(12, seed=1), ridge=ridge)
    rule.take(torch.tensor([0, 5]))
    few = rule.candidates(index)
    for place in (1, 3, 4, 0):
        few.take(place)
        rule.take(index[place : place + 1])
        rest, data = few.value()
        left = [p for p in range(5) if index[p] not in (0, 1, 4, 9, 10)] or [2]
        torch.testing.assert_close(torch.tensor(rest[left]).float(), rule.rest[index[left]], rtol=1e-4, atol=1e-5)
        assert data.tolist() == rule.data[0][index].tolist()


def test_short_vectors_add_directions_that_are_orthogonal():
    # 0.006 is left of the third vector outside of the second: its errors along the first are magnified by 170.
    for seed in range(10):
        turn = torch.linalg.qr(randn(40, 40, seed=seed)).Q
        x = torch.zeros(3, 40)
        x[0, 0] = x[1, 0] = x[2, 0] = 1
        x[1, 1] = x[2, 1] = 1
        x[2, 2] = 0.008
        rule = Volume(Cosines(x @ turn), 3, worth)
        rule.take(torch.tensor([0]))
        rule.take(torch.tensor([1, 2]))
        basis = rule.basis.double()
        assert float((basis @ basis.T).triu(1).abs().max()) < 5e-7
