"""Requests that end in the middle or are refused: the others are answered right, and nothing of them stays."""

from __future__ import annotations

import gc

import pytest

from foveate.errors import FoveateError
from integrations.vllm.models import chat, make_image
from integrations.vllm.sides import Engine, assert_same

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

QUESTIONS = ("how many circles are there", "what is in the image a red square", "answer with one word yes no")
MALFORMED = (
    {"keep": 0}, {"keep": 1.5}, {"keep": float("nan")}, {"keep": "0.1"}, {"keep": True}, {"keep": 10_000},
    {"method": "clever"}, {"method": "visionzip"}, {"positions": "none"}, {"turn": 1}, {"reuse": "always"},
    {"feature_cache_gib": 0}, {"kep": 0.1},
)  # fmt: skip


on_families = pytest.mark.parametrize("engine", ["llava", "qwen2_5_vl"], indirect=True)


def check_empty(engine: Engine) -> None:
    """No request, no KV block, no place in the encoder's cache is in use."""
    scheduler = engine.llm.llm_engine.engine_core.engine_core.scheduler
    assert not engine.llm.llm_engine.has_unfinished_requests()
    assert (len(scheduler.requests), len(scheduler.running), len(scheduler.waiting)) == (0, 0, 0)
    assert scheduler.kv_cache_manager.usage == 0
    cache = scheduler.encoder_cache_manager
    assert not any(cache.cached.values())
    assert cache.num_freeable_slots == cache.cache_size


def run_until_idle(engine: Engine) -> dict[str, list[int]]:
    """Take steps until there is nothing to do; the tokens of every answer."""
    answers = {}
    while engine.llm.llm_engine.has_unfinished_requests():
        for output in engine.llm.llm_engine.step():
            if output.finished:
                answers[output.request_id] = list(output.outputs[0].token_ids)
    return answers


@on_families
@pytest.mark.parametrize("left", [("1",), ("0", "2"), ("0", "1", "2")])
def test_cancelled_in_the_step_of_the_encoder(engine, left, monkeypatch):
    """While it encodes all three images; two of the requests show the same one."""
    from vllm import SamplingParams

    engine.clear_caches()
    engine.features.clear()
    llm, stock, called = engine.llm.llm_engine, engine.model.embed_multimodal, []

    def cancel(**kwargs):
        called.append(len(kwargs["foveate"]))
        rows = stock(**kwargs)
        if len(called) == 1:
            llm.abort_request(list(left))
        return rows

    monkeypatch.setattr(engine.model, "embed_multimodal", cancel)
    shown = [[make_image(70)], [make_image(71)], [make_image(70)]]
    params = SamplingParams(temperature=0, max_tokens=4)
    for n, question in enumerate(QUESTIONS):
        llm.add_request(str(n), engine.prompt(chat(question), shown[n]), params)
    answers = run_until_idle(engine)
    assert called[0] == 3
    assert set(answers) == {"0", "1", "2"} - set(left)
    for n, question in enumerate(QUESTIONS):
        expected = engine.reference.answer(chat(question), shown[n], keep=0.3)
        if str(n) in answers:
            assert answers[str(n)] == expected.tokens[:4]
        assert_same(engine.answer(chat(question), shown[n]), expected)  # nothing wrong was cached
    check_empty(engine)


@on_families
def test_cancelled_at_every_step(engine):
    """Between the steps of a prompt and its answer, one request after the other, beside one that stays."""
    from vllm import SamplingParams

    engine.clear_caches()
    llm, params = engine.llm.llm_engine, SamplingParams(temperature=0, max_tokens=4)
    stays, shown = engine.reference.answer(chat(QUESTIONS[0]), [make_image(72)], keep=0.3), [make_image(73)]
    for steps in range(4):
        llm.add_request("stays", engine.prompt(chat(QUESTIONS[0]), [make_image(72)]), params)
        llm.add_request("leaves", engine.prompt(chat(QUESTIONS[1]), shown), params)
        for _ in range(steps):
            llm.step()
        llm.abort_request(["leaves"])
        assert run_until_idle(engine) == {"stays": stays.tokens[:4]}
        check_empty(engine)


@on_families
@pytest.mark.parametrize("settings", MALFORMED, ids=str)
def test_malformed_settings(engine, settings):
    """A refusal in a sentence; a request that was sent before it is answered, and so is one after it."""
    from vllm import SamplingParams

    llm, talk, images = engine.llm.llm_engine, chat(QUESTIONS[2]), [make_image(74)]
    llm.add_request("before", engine.prompt(talk, images), SamplingParams(temperature=0, max_tokens=4))
    known = engine.features.bytes
    with pytest.raises(FoveateError) as refusal:
        llm.add_request("bad", engine.prompt(talk, images, **settings), SamplingParams(max_tokens=4))
    assert str(refusal.value).endswith(".")
    assert engine.features.bytes == known
    expected = engine.reference.answer(talk, images, keep=0.3)
    assert run_until_idle(engine) == {"before": expected.tokens[:4]}
    assert_same(engine.answer(talk, images), expected)
    check_empty(engine)


def read_memory() -> float:
    """MiB of this process."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


@pytest.mark.faults
def test_a_thousand_pictures(engines):
    """Each is another one: caches are full after some of them, and memory is flat from there on."""
    gib = 2**-9  # 2 MiB
    engine = engines.start("llava", feature_cache_gib=gib, mm_processor_cache_gb=4 * gib)
    images, memory = 1000, []
    for start in range(0, images, 20):
        shown = [make_image(1000 + n) for n in range(start, start + 20)]
        prompts = [engine.prompt(chat(QUESTIONS[n % 3]), [image], reuse="auto") for n, image in enumerate(shown)]
        answers = engine.answers(prompts)
        expected = engine.reference.answer(chat(QUESTIONS[0]), shown[:1], keep=0.3)
        assert_same(answers[0], expected)
        assert 0 < engine.features.bytes <= gib * 2**30
        memory.append(read_memory())
    check_empty(engine)
    assert engine.features.encoded == images
    half = len(memory) // 2
    assert max(memory[half:]) - max(memory[:half]) < 16, memory
