import pytest
import torch

from foveate.method.scoring import (
    scale_min_max,
    score_peaked_tokens,
    score_pooled,
    score_token_max,
    score_token_mean,
    to_salience,
)
from foveate.method.selection import TIE

SCORES = [score_pooled, score_token_mean, score_token_max]
AXES = torch.eye(3)


def test_the_three_scores_by_hand():
    question = torch.tensor([[9.0, 0, 0], [0, 1, 0]])
    # The mean of the raw embeddings is (4.5, 0.5, 0): long embeddings weigh more, in "pooled" alone.
    torch.testing.assert_close(score_pooled(AXES, question), torch.tensor([9.0, 1.0, 0.0]) / 82**0.5)
    torch.testing.assert_close(score_token_mean(AXES, question), torch.tensor([0.5, 0.5, 0.0]))
    torch.testing.assert_close(score_token_max(AXES, question), torch.tensor([1.0, 1.0, 0.0]))


def test_the_sign_is_plus():
    for score in SCORES:
        torch.testing.assert_close(
            score(torch.tensor([[2.0, 0], [-3.0, 0]]), torch.tensor([[5.0, 0]])), torch.tensor([1.0, -1])
        )


@pytest.mark.parametrize("score", SCORES)
def test_an_empty_question_and_a_row_of_zeros_score_nought(score):
    assert score(torch.ones(5, 3), AXES[:0]).tolist() == [0.0] * 5
    empty = score(AXES.half(), AXES[:0].half())
    assert empty.dtype == torch.float32
    assert empty.tolist() == [0.0, 0.0, 0.0]
    assert score(torch.cat([AXES, torch.zeros(1, 3)]), AXES[:1])[3] == 0
    assert score(AXES, torch.zeros(2, 3)).tolist() == [0.0, 0.0, 0.0]


def test_one_word_makes_all_three_the_same():
    embeds, word = torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(0))[:, :, :]
    for score in (score_token_mean, score_token_max):
        torch.testing.assert_close(score(embeds, word[:1]), score_pooled(embeds, word[:1]))


@pytest.mark.parametrize("score", SCORES)
def test_half_precision_is_computed_in_float32(score):
    embeds, question = torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(score(embeds, question), score(embeds.float(), question.float()))


@pytest.mark.parametrize("score", [score_pooled, score_token_mean])
def test_duplicates_score_the_same_to_the_last_bit(score):
    generator = torch.Generator().manual_seed(0)
    for d in (3, 16, 100, 1024):
        embeds = torch.randn(1, d, generator=generator).repeat(37, 1)
        assert score(embeds, torch.randn(4, d, generator=generator)).unique().numel() == 1


def test_peaked_words_by_hand():
    # Both maps rise by 2/3 in a place of their own and fall by 1/3 elsewhere, so both words weigh the same.
    question = torch.tensor([[9.0, 0, 0], [0, 1, 0]])
    torch.testing.assert_close(score_peaked_tokens(AXES, question), torch.tensor([1 / 6, 1 / 6, -1 / 3]))
    assert score_peaked_tokens(AXES, AXES[:0]).tolist() == [0, 0, 0]
    # A map that dips in one place has no peak, and duplicates have none at all.
    torch.testing.assert_close(score_peaked_tokens(AXES, torch.tensor([[1.0, 1, 0]])), torch.zeros(3))
    assert score_peaked_tokens(AXES[:1].repeat(5, 1), AXES).tolist() == [0] * 5


def test_a_word_that_points_at_nothing_hardly_counts():
    generator = torch.Generator().manual_seed(0)
    embeds, idle = torch.randn(100, 256, generator=generator), torch.randn(5, 256, generator=generator)
    word = embeds[7:8] + 0.5 * torch.randn(1, 256, generator=generator)
    alone, among = score_peaked_tokens(embeds, word), score_peaked_tokens(embeds, torch.cat([idle, word]))
    torch.testing.assert_close(among, alone, atol=0.03, rtol=0)
    diluted = score_pooled(embeds, torch.cat([idle, word]))
    assert among[7] > 1.5 * diluted[7]


def test_salience_is_in_units_of_the_mean():
    torch.testing.assert_close(to_salience(torch.tensor([0.125, 0.375]).half()), torch.tensor([0.5, 1.5]))
    assert to_salience(torch.zeros(3)).tolist() == [1, 1, 1]


def test_scale_min_max():
    torch.testing.assert_close(scale_min_max(torch.tensor([-1.0, 3, 1])), torch.tensor([0.0, 1, 0.5]))
    assert scale_min_max(torch.full((3,), 7.0)).tolist() == [0, 0, 0]
    # Less than float32 can tell is flat.
    assert scale_min_max(torch.tensor([0.0, TIE / 2])).tolist() == [0, 0]
    assert scale_min_max(torch.tensor([0.0, 2 * TIE])).tolist() == [0, 1]
