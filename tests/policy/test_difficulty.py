"""Each score against its formula, computed another way."""

import numpy as np
import pytest
import torch

from foveate.method.tokens import VisualTokens
from foveate.policy.difficulty import LARGEST, SCORES, measure_scores, read_topic


def make_tokens(n=40, d=16, seed=0, **extras):
    generator = torch.Generator().manual_seed(seed)
    return VisualTokens(torch.randn(n, d, generator=generator), torch.randn(5, d, generator=generator), **extras)


def test_token_spread_by_numpy():
    tokens = make_tokens()
    rows = tokens.embeds.double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    values = np.linalg.svd(rows, compute_uv=False) ** 2
    assert SCORES["token spread"](tokens) == pytest.approx(values.sum() ** 2 / (values**2).sum() / 40, rel=1e-5)


@pytest.mark.parametrize("copies", [1, 5])
def test_token_spread_of_equal_and_of_orthogonal_tokens(copies):
    equal, orthogonal = torch.ones(20, 32), torch.eye(4, 32).repeat(copies, 1)
    assert SCORES["token spread"](VisualTokens(equal, equal[:1])) == pytest.approx(1 / 20)
    assert SCORES["token spread"](VisualTokens(orthogonal, equal[:1])) == pytest.approx(1 / copies)


def test_spread_of_a_flat_and_of_a_peaked_map():
    embeds = torch.eye(50, 64)
    flat = VisualTokens(embeds, torch.ones(1, 64), attention=torch.ones(50))
    peak = torch.zeros(50)
    peak[3] = 1.0
    peaked = VisualTokens(embeds, embeds[3:4], attention=peak)
    assert SCORES["relevance spread"](flat) == pytest.approx(1)
    assert SCORES["relevance spread"](peaked) < 0.2
    assert SCORES["attention spread"](flat) == pytest.approx(1)
    assert SCORES["attention spread"](peaked) == pytest.approx(1 / 50)


@pytest.mark.parametrize("name", [name for name in SCORES if name not in ("tokens", "question tokens")])
@pytest.mark.parametrize("n", [1, 2, 40, LARGEST + 500])
def test_shares_lie_in_0_and_1(name, n):
    score = SCORES[name](make_tokens(n, attention=torch.rand(n, generator=torch.Generator().manual_seed(1))))
    assert 0 < score <= 1 + 1e-6


@pytest.mark.parametrize("name", [name for name in SCORES if name != "question tokens"])
def test_scores_do_not_depend_on_the_scale(name):
    tokens = make_tokens(attention=torch.rand(40, generator=torch.Generator().manual_seed(1)))
    large = VisualTokens(1e6 * tokens.embeds, 1e6 * tokens.question, attention=tokens.attention)
    assert SCORES[name](large) == pytest.approx(SCORES[name](tokens), rel=1e-4)


def test_attention_is_measured_where_there_is_one():
    assert "attention spread" not in measure_scores(make_tokens())
    assert set(measure_scores(make_tokens(attention=torch.ones(40)))) == set(SCORES)


def test_topic_is_the_direction_of_the_mean():
    tokens = make_tokens()
    mean = tokens.question.double().mean(0)
    assert torch.allclose(read_topic(tokens).double(), mean / mean.norm(), atol=1e-6)
    none = VisualTokens(tokens.embeds, tokens.question[:0])
    assert not read_topic(none).any()
    assert measure_scores(none)["relevance spread"] == pytest.approx(1)
