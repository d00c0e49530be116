"""Many requests at once, prompts in chunks, and what the plug-in refuses."""

from __future__ import annotations

import pytest

from foveate.errors import FoveateError
from integrations.vllm.models import chat, make_image
from integrations.vllm.sides import Engine, assert_same

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

QUESTION = "how many circles are there"


def mixed(engine: Engine) -> list[tuple[list[dict], list, dict]]:
    """Requests that differ in everything."""
    requests = []
    for n, keep in enumerate((0.3, 1.0, 3, 0.5, 0.1, 8)):
        images = [make_image(10 + n, 200 - 20 * n, 150), make_image(20 + n, 90, 90 + 10 * n)][: 1 + n % 2]
        settings = {"keep": keep, "positions": ("original", "compact")[n % 3 == 2]}
        requests.append((chat(f"{QUESTION} {'yes ' * n}", len(images)), images, settings))
    return [*requests, (chat(QUESTION, 0), [], {})]


def test_many_at_once(engine):
    requests = mixed(engine)
    together = engine.answers([engine.prompt(talk, images, **settings) for talk, images, settings in requests])
    for answer, (talk, images, settings) in zip(together, requests, strict=True):
        assert_same(answer, engine.reference.answer(talk, images, **(settings or {"keep": 0.3})))


@pytest.mark.parametrize("family", ["llava_next", "mistral3", "qwen3_vl"])
def test_in_chunks(engines, family):
    """Prefill that ends within an image, and few images per step of the encoder."""
    small = {"max_num_batched_tokens": 40, "enable_chunked_prefill": True, "max_num_seqs": 4, "block_size": 32}
    engine = engines.start(family, **small)
    requests = mixed(engine)
    together = engine.answers([engine.prompt(talk, images, **settings) for talk, images, settings in requests])
    for answer, (talk, images, settings) in zip(together, requests, strict=True):
        assert_same(answer, engine.reference.answer(talk, images, **(settings or {"keep": 0.3})))


def test_without_caches(engines):
    off = {"enable_prefix_caching": False, "mm_processor_cache_gb": 0}
    engine = engines.start("qwen2_5_vl", **off)
    for _ in range(2):
        answer = engine.answer(chat(QUESTION), [make_image(30)], keep=0.3)
        assert answer.cached == 0
        assert_same(answer, engine.reference.answer(chat(QUESTION), [make_image(30)], keep=0.3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 0}, "keep=0 keeps no token"),
        ({"keep": 1.5}, "keep=1.5 is not a share"),
        ({"keep": "0.3"}, "keep='0.3' is a str"),
        ({"keep": 5000}, "is more than the"),
        ({"method": "clever"}, "There is no method 'clever'"),
        ({"method": "visionzip"}, "which vLLM does not give"),
        ({"method": "fastv"}, "works inside the decoder"),
        ({"method": 3}, "is not a method"),
        ({"positions": "none"}, "positions='none' is unknown"),
        ({"turn": "first"}, "turn='first' is unknown"),
        ({"budget": 3}, "has no setting 'budget'"),
    ],
)
def test_refused(engine, settings, message):
    with pytest.raises(FoveateError, match=message):
        engine.answer(chat(QUESTION), [make_image(31)], **settings)
    engine.check_answer(chat(QUESTION), [make_image(31)])


def test_no_object(engine):
    prompt = engine.prompt(chat(QUESTION), [make_image(32)]) | {"mm_processor_kwargs": {"foveate": 0.1}}
    with pytest.raises(FoveateError, match=r'"foveate" is 0\.1: pass an object'):
        engine.answers([prompt])


def test_some_images_too_small(engine):
    """An image with fewer tokens than keep stays whole beside larger ones, as in the library."""
    if "qwen" not in engine.reference.model.config.model_type:
        pytest.skip("its images all have as many tokens, except newlines")
    images = [make_image(33, 60, 60), make_image(34, 220, 200)]
    with pytest.warns(Warning, match="keeps all"):
        expected = engine.reference.answer(chat(QUESTION, 2), images, keep=20)
    assert_same(engine.answer(chat(QUESTION, 2), images, keep=20), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pipeline_parallel_size": 2, "distributed_executor_backend": "mp"}, "pipeline parallelism"),
        ({"mm_processor_kwargs": {"foveate": {"keep": 0.1}}}, "--mm-processor-kwargs"),
        ({"video_pruning_rate": 0.5}, "own pruning of videos"),
    ],
)
def test_engines_refused(folders, references, settings, message):
    with pytest.raises(Exception, match=message):
        Engine(folders("qwen2_5_vl"), reference=references("qwen2_5_vl"), **settings)


def test_no_keep(folders):
    from vllm import LLM

    with pytest.raises(Exception, match="Pruning needs a value for keep"):
        LLM(str(folders("llava")), hf_overrides={"architectures": ["FoveateLlavaForConditionalGeneration"]})


def test_the_last_position(engines):
    """Whole images must not take the prompt past it; an answer may run past it."""
    short = {"text_config": {"max_position_embeddings": 128}}
    engine = engines.start("llava_next", text=short, max_model_len=128)
    images, talk = [make_image(40), make_image(41)], chat(QUESTION, 2)
    with pytest.raises(FoveateError, match="tokens long, and the model has 128 positions"):
        engine.answer(talk, images, keep=3)
    settings = {"keep": 3, "positions": "compact"}
    engine.check_answer(talk, images, **settings)
    near = (chat("yes " * count) for count in range(128))
    talk = next(one for one in near if engine.reference.inputs(one, images[:1])["input_ids"].shape[1] > 120)
    assert len(engine.answer(talk, images[:1], keep=3).tokens) == 12


def test_a_stock_architecture(folders):
    """It is an error, instead of silently no pruning."""
    from vllm import LLM

    with pytest.raises(Exception, match=r'put "architectures": \["FoveateLlavaForConditionalGeneration"\] beside it'):
        LLM(str(folders("llava")), hf_overrides={"foveate": {"keep": 0.1}})
