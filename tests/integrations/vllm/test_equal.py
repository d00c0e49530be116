"""Greedy tokens and their probabilities are those of `prune_inputs` and transformers, for every family."""

from __future__ import annotations

import pytest

from integrations.vllm.models import chat, picture
from integrations.vllm.sides import same

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

QUESTIONS = ("how many circles are there", "what is in the image a red square")


@pytest.mark.parametrize("keep", [0.3, 3, 1.0])
@pytest.mark.parametrize("positions", ["original", "compact"])
def test_one_picture(engine, keep, positions):
    for seed, question in enumerate(QUESTIONS):
        shown, asked = [picture(seed, 200 - 70 * seed, 150)], {"keep": keep, "positions": positions}
        same(engine.answer(chat(question), shown, **asked), engine.reference.answer(chat(question), shown, **asked))


def test_several_pictures(engine):
    shown = [picture(2), picture(3, 90, 90), picture(4, 60, 160)]
    for keep in (0.3, 1.0):
        expected = engine.reference.answer(chat(QUESTIONS[0], 3), shown, keep=keep)
        same(engine.answer(chat(QUESTIONS[0], 3), shown, keep=keep), expected)


def test_the_server_s_own_settings(engine):
    same(engine.answer(chat("yes"), [picture(5)]), engine.reference.answer(chat("yes"), [picture(5)], keep=0.3))


def test_text_alone(engine):
    same(engine.answer(chat(QUESTIONS[0], 0), []), engine.reference.answer(chat(QUESTIONS[0], 0), [], keep=0.3))


def test_no_question(engine):
    same(engine.answer(chat(""), [picture(6)]), engine.reference.answer(chat(""), [picture(6)], keep=0.3))


@pytest.mark.parametrize("method", ["divprune", "zspaprune", "cdpruner", "coin", "grid"])
def test_methods(engine, method):
    asked = {"keep": 0.3, "method": method}
    same(
        engine.answer(chat("what"), [picture(7)], **asked), engine.reference.answer(chat("what"), [picture(7)], **asked)
    )


def test_the_answers_depend_on_what_is_kept_and_where(engine):
    """Or equality would say nothing."""
    shown, question = [picture(8)], chat(QUESTIONS[1])
    whole, few, moved = (
        engine.answer(question, shown, **asked)
        for asked in ({"keep": 1.0}, {"keep": 3}, {"keep": 3, "positions": "compact"})
    )
    grid = engine.answer(question, shown, keep=3, method="grid")
    for other in (few, grid):
        assert abs(whole.logprobs[0][whole.tokens[0]] - other.logprobs[0].get(whole.tokens[0], -99)) > 0.02
    assert few.logprobs[0] != grid.logprobs[0]
    assert max(abs(few.logprobs[0][i] - moved.logprobs[0].get(i, -99)) for i in few.logprobs[0]) > 0.02
