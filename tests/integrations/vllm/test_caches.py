"""To vLLM's caches an image with another question is another image, and with the same question the same one."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import foveate
from foveate.method import Method
from integrations.vllm.models import chat, make_image
from integrations.vllm.sides import assert_same

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

LONG = "how many circles are there in the image answer with one word yes no what is a red square"
OTHER = "what is in the image a red square answer with one word how many circles are there yes no"


@pytest.fixture
def selected(engine, monkeypatch):
    """The images that tokens were selected from so far."""
    from foveate.integrations.vllm import model

    selected, stock = [], model.select_tokens

    def record(items, shares, *args):
        selected.extend(shares)
        return stock(items, shares, *args)

    monkeypatch.setattr(model, "select_tokens", record)
    return selected


def test_another_question(engine, selected):
    images = [make_image(0)]
    for question in (LONG, OTHER, LONG):
        engine.check_answer(chat(question), images)
    assert len(selected) == 2


def test_the_same_question(engine, selected):
    """Selected from once; the second prompt has the KV of the first, up to its last whole block."""
    images, question = [make_image(1)], chat(LONG)
    first, again = (engine.answer(question, images, keep=0.9) for _ in range(2))
    assert_same(again, first)
    assert first.cached == 0
    assert again.cached == (again.prompt - 1) // 32 * 32 > 0
    assert len(selected) == 1


def test_encoder_cache_alone(engine, selected):
    """The text before the image differs: the KV cannot be shared, the encoder's output can."""
    turns = [[{"role": "user", "content": hello}, {"role": "assistant", "content": "yes"}] for hello in ("one", "two")]
    for turn in turns:
        talk = turn + chat(LONG)
        engine.check_answer(talk, [make_image(2)])
    assert len(selected) == 1


def test_another_keep_or_method(engine, selected):
    images, question = [make_image(3)], chat(LONG)
    for settings in (
        {"keep": 0.3},
        {"keep": 4},
        {"keep": 0.3, "method": "grid"},
        {"keep": 0.3, "positions": "compact"},
    ):
        engine.check_answer(question, images, **settings)
    assert len(selected) == 4


def test_prompt_blind_methods_share(engine, selected):
    """Methods that ignore the question select once for all questions; with keep=1.0 nothing is selected."""
    for question in (LONG, OTHER):
        for settings in ({"method": "grid"}, {"keep": 1.0}):
            expected = engine.reference.answer(chat(question), [make_image(4)], **{"keep": 0.3, **settings})
            assert_same(engine.answer(chat(question), [make_image(4)], **settings), expected)
    assert len(selected) == 1


def test_text_after_a_cached_image(engine, selected):
    """The second turn's text stands where it would have stood without any cache."""
    first = chat(LONG)
    talk = [*first, {"role": "assistant", "content": "yes"}, {"role": "user", "content": OTHER}]
    images, settings = [make_image(5)], {"keep": 0.9, "method": "grid"}
    engine.answer(first, images, **settings)
    answer = engine.answer(talk, images, **settings)
    assert answer.cached >= 32
    assert_same(answer, engine.reference.answer(talk, images, **settings))
    assert len(selected) == 1


@dataclasses.dataclass(frozen=True)
class FixedSelection(Method):
    """Selects the tokens of `kept`."""

    name = "fixed"
    paper = "baseline"
    summary = "listed tokens"
    prompt_aware = False
    kept: tuple[tuple[int, ...], ...] = ()

    def _select(self, tokens, k, selected):
        raise NotImplementedError

    def _select_many(self, tokens, ks):
        return [torch.tensor(kept) for kept in self.kept]


def test_own_question(engines):
    """With turn="own", images of earlier turns keep their selection, and the KV cache holds across turns."""
    engine = engines.start("qwen2_5_vl", turn="own", keep=0.8)
    reference = engine.reference
    first, images = chat(LONG), [make_image(6), make_image(7, 90, 120)]
    talk = [*first, {"role": "assistant", "content": "yes"}, *chat(OTHER)]
    kept = []
    for image, own in zip(images, (LONG, OTHER), strict=True):
        short = foveate.prune_inputs(reference.model, reference.inputs(chat(own), [image]), keep=0.8)
        kept.append(tuple(short.report.items[0].kept.tolist()))
    assert_same(engine.answer(first, images[:1]), reference.answer(first, images[:1], keep=0.8))
    answer = engine.answer(talk, images)
    assert answer.cached >= 32
    assert_same(answer, reference.answer(talk, images, keep=0.8, method=FixedSelection(kept=tuple(kept))))
    anew = foveate.prune_inputs(reference.model, reference.inputs(talk, images), keep=0.8).report
    assert kept[0] != tuple(anew.items[0].kept.tolist())  # the library selects again for the last question
