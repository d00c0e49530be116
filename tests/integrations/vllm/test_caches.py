"""A picture with another question is another picture to vLLM's caches, and with the same question the same one."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import foveate
from foveate.method import Method
from integrations.vllm.models import chat, picture
from integrations.vllm.sides import Engine, same

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

LONG = "how many circles are there in the image answer with one word yes no what is a red square"
OTHER = "what is in the image a red square answer with one word how many circles are there yes no"


@pytest.fixture
def chosen(engine, monkeypatch):
    """How many pictures were chosen from so far."""
    from foveate.integrations.vllm import model

    engine.forget()
    counts = []

    def count(subjects, method, keep):
        counts.extend(subjects)
        return choose(subjects, method, keep)

    choose = model.choose
    monkeypatch.setattr(model, "choose", count)
    return counts


def test_another_question(engine, chosen):
    shown = [picture(0)]
    for question in (LONG, OTHER, LONG):
        same(engine.answer(chat(question), shown), engine.reference.answer(chat(question), shown, keep=0.3))
    assert len(chosen) == 2


def test_the_same_question(engine, chosen):
    """Chosen from once, and the second prompt's KV is that of the first, up to its last whole block."""
    shown, question = [picture(1)], chat(LONG)
    first, again = (engine.answer(question, shown, keep=0.9) for _ in range(2))
    same(again, first)
    assert first.cached == 0
    assert again.cached == (again.prompt - 1) // 32 * 32 > 0
    assert len(chosen) == 1


def test_encoder_cache_alone(engine, chosen):
    """Text before the picture differs: no KV can be shared, what left the encoder can."""
    turns = [[{"role": "user", "content": hello}, {"role": "assistant", "content": "yes"}] for hello in ("one", "two")]
    for turn in turns:
        talk = turn + chat(LONG)
        same(engine.answer(talk, [picture(2)]), engine.reference.answer(talk, [picture(2)], keep=0.3))
    assert len(chosen) == 1


def test_another_keep_or_method(engine, chosen):
    shown, question = [picture(3)], chat(LONG)
    for asked in ({"keep": 0.3}, {"keep": 4}, {"keep": 0.3, "method": "grid"}, {"keep": 0.3, "positions": "compact"}):
        same(engine.answer(question, shown, **asked), engine.reference.answer(question, shown, **asked))
    assert len(chosen) == 4


def test_blind_methods_share(engine, chosen):
    """What does not look at the question is chosen once for all questions; unpruned, nothing is chosen."""
    for question in (LONG, OTHER):
        for asked in ({"method": "grid"}, {"keep": 1.0}):
            expected = engine.reference.answer(chat(question), [picture(4)], **{"keep": 0.3, **asked})
            same(engine.answer(chat(question), [picture(4)], **asked), expected)
    assert len(chosen) == 1


def test_text_after_a_cached_picture(engine, chosen):
    """The second turn's text stands where it would have stood without any cache."""
    first = chat(LONG)
    talk = [*first, {"role": "assistant", "content": "yes"}, {"role": "user", "content": OTHER}]
    shown, asked = [picture(5)], {"keep": 0.9, "method": "grid"}
    engine.answer(first, shown, **asked)
    found = engine.answer(talk, shown, **asked)
    assert found.cached >= 32
    same(found, engine.reference.answer(talk, shown, **asked))
    assert len(chosen) == 1


@dataclasses.dataclass(frozen=True)
class Given(Method):
    """Keeps what it is told to."""

    name = "given"
    paper = "baseline"
    summary = "given tokens"
    prompt_aware = False
    kept: tuple[tuple[int, ...], ...] = ()

    def _select(self, tokens, k, selected):
        raise NotImplementedError

    def _select_many(self, pictures, ks):
        return [torch.tensor(kept) for kept in self.kept]


def test_own_question(folders, references):
    """With turn="own", pictures of earlier turns keep their choice, and the KV cache holds across turns."""
    reference = references("qwen2_5_vl")
    engine = Engine(folders("qwen2_5_vl"), reference=reference, turn="own", keep=0.8)
    first, shown = chat(LONG), [picture(6), picture(7, 90, 120)]
    talk = [*first, {"role": "assistant", "content": "yes"}, *chat(OTHER)]
    kept = []
    for part, own in zip(shown, (LONG, OTHER), strict=True):
        short = foveate.prune_inputs(reference.model, reference.inputs(chat(own), [part]), keep=0.8)
        kept.append(tuple(short.report.kept[0].tolist()))
    same(engine.answer(first, shown[:1]), reference.answer(first, shown[:1], keep=0.8))
    found = engine.answer(talk, shown)
    assert found.cached >= 32
    same(found, reference.answer(talk, shown, keep=0.8, method=Given(kept=tuple(kept))))
    assert kept[0] != tuple(
        reference.model
        and foveate.prune_inputs(reference.model, reference.inputs(talk, shown), keep=0.8).report.kept[0].tolist()
    )  # the library would choose anew for the last question
