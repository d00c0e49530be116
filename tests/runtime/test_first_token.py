"""How sure the first token is."""

import pytest
import torch

from foveate.runtime.first_token import FirstTokenOdds, read_odds


def test_odds_are_those_of_the_likeliest_token():
    logits = torch.randn(7, 40, generator=torch.Generator().manual_seed(0)) * 3
    top = logits.double().softmax(1).amax(1)
    assert torch.allclose(read_odds(logits).double(), (top / (1 - top)).log(), atol=1e-5)
    assert torch.allclose(read_odds(logits.log_softmax(1)), read_odds(logits), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_certainty_is_bounded(dtype):
    assert read_odds(torch.tensor([[100.0, 0.0, 0.0]], dtype=dtype)).tolist() == [14.0]
    assert read_odds(torch.zeros(1, 10_000_000, dtype=dtype)).tolist() == [-14.0]
    assert read_odds(torch.tensor([[0.0, -float("inf")]], dtype=dtype)).tolist() == [14.0]


def test_only_the_first_token_counts():
    first = FirstTokenOdds()
    scores = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert first(torch.zeros(2, 5), scores) is scores
    first(torch.zeros(2, 6), -scores)
    assert first.odds == pytest.approx(read_odds(scores).tolist())
