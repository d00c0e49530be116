"""`benchmarks/screen_arms.py`: every run of dropped tokens has its marker, and shares are as many tokens as others."""

import importlib
from itertools import groupby
from pathlib import Path

import pytest
import torch

from foveate.method.foveate import Foveate
from foveate.method.tokens import VisualTokens

N = 20


@pytest.fixture
def arms(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("screen_arms")


@pytest.mark.parametrize("k", [3, 4, 7, 12, 19, 20])
def test_every_run_of_dropped_tokens_ends_in_a_marker_that_stands_for_it(arms, k):
    rng = torch.Generator().manual_seed(k)
    tokens = VisualTokens(torch.randn(N, 8, generator=rng), torch.randn(3, 8, generator=rng), None)
    method = arms.Marked(mean=True)
    kept = method.select(tokens, k)
    assert len(kept) == k
    assert int(kept[-1]) == N - 1  # else the last run has none
    assert torch.equal(kept, arms.Marked().select(tokens, k))
    assert arms.Marked().merge_weights(tokens, kept) is None
    expected = torch.zeros(k, N)
    dropped = [n not in kept.tolist() for n in range(N)]
    for is_run, run in groupby(range(N), lambda n: dropped[n]):
        places = list(run)
        for n in [places[-1] + 1] if is_run else places[1:] if places[0] else places:
            parts = [*places, n] if is_run else [n]
            expected[kept.tolist().index(n), parts] = 1 / len(parts)
    assert torch.allclose(method.merge_weights(tokens, kept), expected)
    chosen, more = Foveate().select(tokens, k).tolist(), arms.Marked(on_top=True).select(tokens, k).tolist()
    ends = [n for n in range(N) if n not in chosen and (n + 1 in chosen or n + 1 == N)]
    assert more == sorted(chosen + ends)


def test_shares_by_recency_are_as_many_tokens_as_one_share_for_all(arms):
    """For histories of four and five screenshots together, within a tenth; those that fade leave the newest whole."""
    for keep, recency in arms.ALIKE.items():
        assert sum(sum(recency.shares(count)) for count in (4, 5)) == pytest.approx(9 * keep, rel=0.1)
    for keep, recency in arms.FADING.items():
        assert recency.newest == 1
        assert sum(sum(recency.shares(count)) - 1 for count in (4, 5)) == pytest.approx(7 * keep, rel=0.1)
