"""Clips in the engine: the library's choice, positions as if nothing had been dropped, and what the caches share.

For Qwen2.5-VL the reference numbers text as published (`number_as_published`).
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

import foveate
from foveate.errors import FoveateError
from foveate.integrations.vllm.settings import ImagePlan
from foveate.models.visual_input import make_visual_input
from integrations.vllm.models import make_clip, make_image, show
from integrations.vllm.sides import Engine, assert_same
from integrations.vllm.test_reuse import expect_blind, read_choices

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

from foveate.integrations.vllm.clips import insert_words, place_kept, share_budget

QUESTION = "how many circles are there"
LONG = "how many circles are there in the image answer with one word yes no what is a red square"
OTHER = "what is in the image a red square answer with one word how many circles are there yes no"
FAMILIES = ["qwen2_5_vl", "qwen3_vl", "llava_onevision"]
on_families = pytest.mark.parametrize("engine", FAMILIES, indirect=True)


def read_kept(engine: Engine, clip, **settings: object) -> list[int]:
    """The tokens of a clip that the library keeps."""
    inputs = engine.reference.inputs(show("v", QUESTION), [], [clip])
    (item,) = foveate.prune_inputs(engine.reference.model, inputs, **settings).report.items
    return item.kept.tolist()


@on_families
@pytest.mark.parametrize("keep", [0.3, 5, 1.0])
@pytest.mark.parametrize("positions", ["original", "compact"])
def test_one_clip(engine, keep, positions):
    settings = {"keep": keep, "positions": positions}
    for seed, frames in ((0, 8), (1, 4)):
        engine.check_answer(show("v", QUESTION), [], [make_clip(seed, frames)], **settings)


@on_families
def test_methods(engine):
    """Those that go by frames too; they differ, or equality would prove nothing."""
    kept = set()
    for method in ("foveate", "divprune", "vidcom2", "cdpruner", "grid"):
        settings = {"keep": 0.3, "method": method}
        engine.check_answer(show("v", QUESTION), [], [make_clip(2)], **settings)
        kept.add(tuple(read_kept(engine, make_clip(2), **settings)))
    assert len(kept) > 2


@on_families
@pytest.mark.parametrize("kinds", ["iv", "vi", "viv"])
def test_beside_images(engine, kinds):
    """In any order, several clips of other lengths and sizes, whole and pruned."""
    lengths = (8, 4) if "qwen" in engine.reference.model.config.model_type else (8, 8)  # transformers takes no others
    images = [make_image(3, 90, 90)] * kinds.count("i")
    clips = [make_clip(4, lengths[0]), make_clip(5, lengths[1], 60, 90)][: kinds.count("v")]
    for settings in ({"keep": 0.3}, {"keep": 0.5, "positions": "compact"}, {"keep": 1.0}):
        engine.check_answer(show(kinds, QUESTION), images, clips, **settings)


@on_families
def test_where_tokens_stand_matters(engine):
    """Otherwise equality would prove nothing."""
    asked = show("v", QUESTION), [], [make_clip(6)]
    answers = [engine.answer(*asked, keep=0.5, positions=positions) for positions in ("original", "compact")]
    few, moved = (answer.logprobs[0] for answer in answers)
    assert max(abs(few[token] - moved.get(token, -99)) for token in few) > 0.01


@on_families
def test_text_after_a_cached_clip(engine):
    """The KV of the clip comes from the prefix cache; the second turn stands where it would without it."""
    first, clips, settings = show("v", LONG), [make_clip(9)], {"keep": 0.9, "method": "grid"}
    talk = [*first, {"role": "assistant", "content": "yes"}, {"role": "user", "content": OTHER}]
    engine.answer(first, [], clips, **settings)
    answer = engine.answer(talk, [], clips, **settings)
    assert answer.cached >= 32
    assert_same(answer, engine.reference.answer(talk, [], clips, **settings))
    exact = {"keep": 0.9}
    again = [engine.answer(first, [], clips, **exact) for _ in range(2)]
    assert [answer.cached >= 32 for answer in again] == [False, True]
    assert_same(again[1], engine.reference.answer(first, [], clips, **exact))


@on_families
def test_a_clip_is_encoded_once(engine):
    """For all questions, budgets and methods; another clip with the same frames in another order is another one."""
    clip, before = make_clip(10), engine.features.encoded
    for question in (LONG, OTHER):
        for settings in ({"keep": 0.3}, {"keep": 0.5}, {"keep": 0.3, "method": "grid"}, {"keep": 1.0}):
            engine.check_answer(show("v", question), [], [clip], **settings)
    assert engine.features.encoded == before + 1
    engine.check_answer(show("v", LONG), [], [clip[::-1].copy()])
    assert engine.features.encoded == before + 2


@on_families
def test_reuse(engine):
    """The first question has its own choice, all other ones share one; "picture" is the choice without a question."""
    clips, before = [make_clip(11)], read_choices()
    for n, question in enumerate((LONG, OTHER, LONG, OTHER)):
        talk, own = show("v", question), question == LONG
        answer = engine.answer(talk, [], clips, reuse="auto", keep=0.5)
        expected = engine.reference.answer if own else lambda *asked, **more: expect_blind(engine, *asked, **more)
        assert_same(answer, expected(talk, [], clips, keep=0.5))
        blind = engine.answer(talk, [], clips, reuse="picture", keep=0.5)
        assert_same(blind, expect_blind(engine, talk, [], clips, keep=0.5))
        assert n != 3 or blind.cached >= 32
    after = read_choices()
    assert {name: after[name] - before[name] for name in after} == {"question": 2, "picture": 6, "whole": 0}


@on_families
def test_a_still_clip_has_as_many_tokens_as_another(engine):
    """The number is fixed before the encoder runs. The library keeps only what is new; here repeats fill the rest."""
    still, moving = make_clip(12, 1).repeat(8, 0), make_clip(12)
    (whole, kept), (same, library) = (
        (engine.answer(show("v", QUESTION), [], [clip], keep=0.7).prompt, len(read_kept(engine, clip, keep=0.7)))
        for clip in (moving, still)
    )
    assert whole == same
    is_raster = "qwen" in engine.reference.model.config.model_type
    assert (library < kept) == is_raster
    few = {"keep": 0.2}
    assert len(read_kept(engine, still, **few)) == len(read_kept(engine, moving, **few))
    engine.check_answer(show("v", QUESTION), [], [still], **few)


@on_families
def test_many_at_once(engine):
    asked = [
        (show(kinds, question), [make_image(13, 90, 60 + 30 * n)] * kinds.count("i"), [make_clip(14 + n, 4 + 2 * n)])
        for n, (kinds, question) in enumerate((("v", LONG), ("iv", OTHER), ("vi", LONG), ("v", OTHER)))
    ]
    settings = [{"keep": keep, "positions": place} for keep in (0.3, 1.0) for place in ("original", "compact")]
    answers = engine.answers([engine.prompt(*one, **own) for one, own in zip(asked, settings, strict=True)])
    for answer, one, own in zip(answers, asked, settings, strict=True):
        assert_same(answer, engine.reference.answer(*one, **own))


@on_families
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 5000}, "is more than the"),
        ({"method": "visionzip"}, "which vLLM does not give"),
        ({"method": "fastv"}, "works inside the decoder"),
        ({"per": "frame"}, "has no setting 'per'"),
    ],
)
def test_refused(engine, settings, message):
    with pytest.raises(FoveateError, match=message):
        engine.answer(show("v", QUESTION), [], [make_clip(18)], **settings)
    engine.check_answer(show("v", QUESTION), [], [make_clip(18)])


@on_families
def test_a_whole_clip_is_that_of_stock_vllm(engine, engines):
    """To the last bit; beside an image too."""
    asked = [(show(kinds, QUESTION), [make_image(7)] * kinds.count("i"), [make_clip(8)]) for kinds in ("v", "vi", "iv")]
    answers = []
    for one in asked:
        engine.clear_caches()
        engine.features.clear()
        answers.append(engine.answer(*one, keep=1.0))
    stock = engines.start(engine.reference.model.config.model_type, stock=True)
    for answer, one in zip(answers, asked, strict=True):
        expected = stock.answer(*one)
        assert (answer.tokens, answer.logprobs) == (expected.tokens, expected.logprobs)


@pytest.mark.parametrize("engine", ["qwen2_vl"], indirect=True)
def test_qwen2_vl(engine):
    """A clip's times are those of its frames' numbers."""
    for settings in ({"keep": 0.3}, {"keep": 5, "positions": "compact"}, {"keep": 1.0}):
        engine.check_answer(show("v", QUESTION), [], [make_clip(19)], **settings)
        engine.check_answer(show("vi", QUESTION), [make_image(19)], [make_clip(19, 4)], **settings)


@pytest.mark.parametrize("family", ["qwen3_vl"])
def test_in_chunks_and_preempted(engines, family, monkeypatch):
    """Prefill that ends within a clip, in fewer KV blocks than the requests need: some are computed twice."""
    small = {"max_num_batched_tokens": 40, "enable_chunked_prefill": True, "max_num_seqs": 6, "block_size": 32}
    engine = engines.start(family, num_gpu_blocks_override=8, max_model_len=128, **small)
    preempted, scheduler = [], engine.llm.llm_engine.engine_core.engine_core.scheduler
    stock = scheduler._preempt_request

    def record(request, *args, **kwargs):
        preempted.append(request)
        return stock(request, *args, **kwargs)

    monkeypatch.setattr(scheduler, "_preempt_request", record)
    asked = [
        (show(kinds, question), [make_image(20, 60, 60)] * kinds.count("i"), [make_clip(21 + n % 2, 4)])
        for n, kinds in enumerate(("v", "iv", "v"))
        for question in (QUESTION, f"{QUESTION} yes no", "what is in the image")  # ends in a third block
    ]
    answers = engine.answers([engine.prompt(*one, keep=0.5) for one in asked])
    for answer, one in zip(answers, asked, strict=True):
        assert_same(answer, engine.reference.answer(*one, keep=0.5))
    assert preempted


# -- without an engine -------------------------------------------------------------------------------------------------


def test_repeats_are_kept_last():
    """As many tokens as were announced: the new ones first, and never a protected one."""
    draw = torch.Generator().manual_seed(7)
    for still in (0, 2, 3):
        frames = torch.randn(4, 6, 32, generator=draw)
        frames[1 : 1 + still] = frames[0]  # frames that repeat the first one
        item = make_visual_input("video", 0, torch.arange(0), 0, frames.flatten(0, 1))
        ends = torch.arange(24) % 6 == 5
        item = replace(item, grid=(4, 2, 3), protected=ends)
        new = 5 * (4 - still)
        for k in (1, new, new + 1, 20):
            if k > 20:
                continue
            shares = share_budget(0, item, k)
            assert sum(share.k for share in shares) == k
            first = shares[0].candidates
            assert len(first) == new
            assert shares[0].k == min(k, new)
            candidates = torch.cat([share.candidates for share in shares])
            assert not ends[candidates].any()
            assert len(candidates.unique()) == len(candidates)
            if k > new:
                assert set(shares[1].candidates.tolist()) == {n for n in range(6, 6 + 6 * still) if not ends[n]}


def test_words_stand_between_the_rows_of_kept_tokens():
    draw = random.Random(8)
    for _ in range(100):
        total = draw.randint(2, 12)
        words = tuple((place, 40 + place) for place in sorted(draw.sample(range(total), draw.randint(0, total - 1))))
        visual = [place for place in range(total) if place not in dict(words)]
        kept = sorted(draw.sample(range(len(visual)), draw.randint(1, len(visual))))
        plan = ImagePlan(len(kept) + len(words), total, "grid", "original", (), words=words)
        places = place_kept(plan, torch.tensor(kept))
        assert places.tolist() == sorted([visual[n] for n in kept] + [place for place, _ in words])
        rows = torch.tensor([[visual[n], -1.0, 5.0] for n in kept])  # the last column is that of DeepStack
        embedded = torch.tensor([[float(place), -2.0] for place, _ in words]).view(-1, 2)
        joined = insert_words(rows, plan, places, embedded).tolist()
        assert [row[0] for row in joined] == places.tolist()
        assert [row[1:] for row in joined] == [
            [-2.0, 0.0] if n in dict(words) else [-1.0, 5.0] for n in places.tolist()
        ]
