"""In the engine an image is encoded once: answers are those without the store, to the last bit."""

from __future__ import annotations

import pytest
import torch

from integrations.vllm.models import chat, make_image
from integrations.vllm.sides import Engine, assert_same

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

QUESTIONS = ("how many circles are there", "what is in the image a red square", "answer with one word yes no")
SETTINGS = (
    {}, {"keep": 3}, {"keep": 0.5, "method": "grid"}, {"keep": 0.5, "method": "cdpruner"},
    {"keep": 0.3, "positions": "compact"}, {"keep": 1.0},
)  # fmt: skip


@pytest.fixture
def calls(engine, monkeypatch):
    """The images that each call of the stock encoder encoded, since the start of the test."""
    return record_calls(engine, monkeypatch)


def record_calls(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts: list[int] = []
    stock = engine.model._process_image_input

    def record(inputs):
        features = stock(inputs)
        counts.append(len(features))
        return features

    monkeypatch.setattr(engine.model, "_process_image_input", record)
    return counts


def ask_all(engine: Engine, image, questions=QUESTIONS) -> list:
    return [engine.answer(chat(question), [image], **settings) for question in questions for settings in SETTINGS]


def test_one_image_is_encoded_once(engine, calls):
    """Whatever is asked about it, and answered as if it had been encoded for each question."""
    known = ask_all(engine, make_image(50))
    assert sum(calls) == 1
    again = []
    for question in QUESTIONS:
        for settings in SETTINGS:
            engine.clear_caches()
            engine.features.clear()
            again.append(engine.answer(chat(question), [make_image(50)], **settings))
    assert sum(calls) == 1 + len(known)
    assert [answer.tokens for answer in known] == [answer.tokens for answer in again]
    assert [answer.logprobs for answer in known] == [answer.logprobs for answer in again]
    for answer, settings in zip(known, SETTINGS, strict=False):
        assert_same(answer, engine.reference.answer(chat(QUESTIONS[0]), [make_image(50)], **{"keep": 0.3, **settings}))


def test_the_rows_are_those_without_the_store(engine, calls, monkeypatch):
    """Bit for bit, where vLLM takes them over: the kept tokens and their offsets."""
    rows, stock = [], engine.model.embed_multimodal
    monkeypatch.setattr(engine.model, "embed_multimodal", lambda **kwargs: rows.append(stock(**kwargs)) or rows[-1])
    for question in QUESTIONS:
        engine.answer(chat(question), [make_image(51)])
    for question in QUESTIONS:
        engine.clear_caches()
        engine.features.clear()
        engine.answer(chat(question), [make_image(51)])
    assert sum(calls) == 1 + 3
    for known, anew in zip(rows[:3], rows[3:], strict=True):
        assert torch.equal(known[0], anew[0])


def test_many_at_once(engine, calls):
    """One image twice in a prompt, in several prompts of one step, and beside others."""
    images = [make_image(52), make_image(53, 90, 120)]
    asked = [
        (chat(question, len(own)), [images[n] for n in own], {"keep": keep})
        for question in QUESTIONS
        for own, keep in (((0,), 0.3), ((0, 0), 0.5), ((1, 0), 3))
    ]
    answers = engine.answers([engine.prompt(talk, shown, **settings) for talk, shown, settings in asked])
    assert sum(calls) == 2
    for answer, (talk, shown, settings) in zip(answers, asked, strict=True):
        assert_same(answer, engine.reference.answer(talk, shown, **settings))


def test_other_images_have_other_features(engine, calls):
    """Also the same picture in another size or mode."""
    images = [make_image(54), make_image(55), make_image(54, 100, 75), make_image(54).convert("L")]
    for image in images:
        engine.check_answer(chat(QUESTIONS[0]), [image.convert("RGB")])
        engine.check_answer(chat(QUESTIONS[1]), [image.convert("RGB")])
    assert sum(calls) == len(images)


def measure_image(engine: Engine, image) -> int:
    """The bytes of its features."""
    engine.features.clear()
    engine.clear_caches()
    engine.answer(chat(QUESTIONS[0]), [image])
    return engine.features.bytes


@pytest.mark.parametrize("images", [0.5, 1, 2.5])
def test_a_small_store(engine, calls, images, monkeypatch):
    """Smaller than an image, or than those that come; images are forgotten between and within the steps."""
    from foveate.integrations.vllm.features import FeatureStore

    size = measure_image(engine, make_image(56))
    small = FeatureStore(int(images * size))
    monkeypatch.setattr(engine.model, "_features", small)
    engine.clear_caches()
    calls.clear()
    shown = [make_image(56 + n) for n in range(4)]
    asked = [(chat(question, 2), [shown[n], shown[(n + 1) % 4]]) for question in QUESTIONS for n in range(4)]
    answers = engine.answers([engine.prompt(talk, own) for talk, own in asked])
    for answer, (talk, own) in zip(answers, asked, strict=True):
        assert_same(answer, engine.reference.answer(talk, own, keep=0.3))
        assert small.bytes <= images * size
    assert sum(calls) == small.encoded > 4
    assert (small.bytes == 0) == (images < 1)


@pytest.mark.parametrize("family", ["llava", "qwen3_vl"])
def test_in_chunks_and_preempted(engines, family, monkeypatch):
    """Prefill that ends within an image, in fewer KV blocks than the requests need: some are computed twice."""
    small = {"max_num_batched_tokens": 40, "enable_chunked_prefill": True, "max_num_seqs": 6, "block_size": 32}
    engine = engines.start(family, num_gpu_blocks_override=8, max_model_len=128, **small)
    counts, preempted = record_calls(engine, monkeypatch), []
    scheduler = engine.llm.llm_engine.engine_core.engine_core.scheduler
    stock = scheduler._preempt_request

    def record(request, *args, **kwargs):
        preempted.append(request)
        return stock(request, *args, **kwargs)

    monkeypatch.setattr(scheduler, "_preempt_request", record)
    images = [make_image(60), make_image(61, 120, 90)]
    asked = [(chat(question), [images[n % 2]]) for n, question in enumerate(QUESTIONS * 3)]
    answers = engine.answers([engine.prompt(talk, own, keep=0.5) for talk, own in asked])
    for answer, (talk, own) in zip(answers, asked, strict=True):
        assert_same(answer, engine.reference.answer(talk, own, keep=0.5))
    assert preempted
    assert sum(counts) == 2


def test_without_names(engines, monkeypatch):
    """With both of vLLM's caches off it does not name images by their content: none is kept."""
    off = {"enable_prefix_caching": False, "mm_processor_cache_gb": 0}
    engine = engines.start("llava", **off)
    counts = record_calls(engine, monkeypatch)
    for question in QUESTIONS:
        engine.check_answer(chat(question), [make_image(62)])
    assert (sum(counts), engine.features.bytes) == (3, 0)


def test_images_that_clients_name(engine, calls):
    """With `multi_modal_uuids`, as vLLM's own caches."""
    for question in QUESTIONS:
        prompt = engine.prompt(chat(question), [make_image(63)]) | {"multi_modal_uuids": {"image": ["mine"]}}
        assert_same(engine.answers([prompt])[0], engine.reference.answer(chat(question), [make_image(63)], keep=0.3))
    assert sum(calls) == 1
