"""Many requests at once, prompts in chunks, and what the plug-in refuses."""

from __future__ import annotations

import pytest

from foveate.errors import FoveateError
from integrations.vllm.models import chat, picture
from integrations.vllm.sides import Engine, same

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

QUESTION = "how many circles are there"


def mixed(engine: Engine) -> list[tuple[list[dict], list, dict]]:
    """Requests that differ in everything."""
    found = []
    for n, keep in enumerate((0.3, 1.0, 3, 0.5, 0.1, 8)):
        shown = [picture(10 + n, 200 - 20 * n, 150), picture(20 + n, 90, 90 + 10 * n)][: 1 + n % 2]
        asked = {"keep": keep, "positions": ("original", "compact")[n % 3 == 2]}
        found.append((chat(f"{QUESTION} {'yes ' * n}", len(shown)), shown, asked))
    return [*found, (chat(QUESTION, 0), [], {})]


def test_many_at_once(engine):
    engine.forget()
    requests = mixed(engine)
    together = engine.answers([engine.prompt(talk, shown, **asked) for talk, shown, asked in requests])
    for found, (talk, shown, asked) in zip(together, requests, strict=True):
        same(found, engine.reference.answer(talk, shown, **(asked or {"keep": 0.3})))


@pytest.mark.parametrize("family", ["llava_next", "qwen3_vl"])
def test_in_chunks(folders, references, family):
    """Prefill that breaks off within a picture, and few pictures a step of the encoder."""
    small = {"max_num_batched_tokens": 40, "enable_chunked_prefill": True, "max_num_seqs": 4, "block_size": 32}
    engine = Engine(folders(family), reference=references(family), **small)
    requests = mixed(engine)
    together = engine.answers([engine.prompt(talk, shown, **asked) for talk, shown, asked in requests])
    for found, (talk, shown, asked) in zip(together, requests, strict=True):
        same(found, engine.reference.answer(talk, shown, **(asked or {"keep": 0.3})))


def test_without_caches(folders, references):
    off = {"enable_prefix_caching": False, "mm_processor_cache_gb": 0}
    engine = Engine(folders("qwen2_5_vl"), reference=references("qwen2_5_vl"), **off)
    for _ in range(2):
        found = engine.answer(chat(QUESTION), [picture(30)], keep=0.3)
        assert found.cached == 0
        same(found, engine.reference.answer(chat(QUESTION), [picture(30)], keep=0.3))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"keep": 0}, "keep=0 keeps no token"),
        ({"keep": 1.5}, "keep=1.5 is not a share"),
        ({"keep": "0.3"}, "keep='0.3' is a str"),
        ({"keep": 5000}, "is more than the"),
        ({"method": "clever"}, "There is no method 'clever'"),
        ({"method": "visionzip"}, "which vLLM does not give"),
        ({"method": "fastv"}, "drops tokens between the decoder's layers"),
        ({"method": 3}, "is not a method"),
        ({"positions": "none"}, "positions='none' is unknown"),
        ({"turn": "first"}, "turn='first' is unknown"),
        ({"budget": 3}, "'budget' is no setting"),
    ],
)
def test_refused(engine, asked, words):
    with pytest.raises(FoveateError, match=words):
        engine.answer(chat(QUESTION), [picture(31)], **asked)
    same(engine.answer(chat(QUESTION), [picture(31)]), engine.reference.answer(chat(QUESTION), [picture(31)], keep=0.3))


def test_no_object(engine):
    prompt = engine.prompt(chat(QUESTION), [picture(32)]) | {"mm_processor_kwargs": {"foveate": 0.1}}
    with pytest.raises(FoveateError, match=r'"foveate" is 0\.1: give an object'):
        engine.answers([prompt])


def test_some_pictures_too_small(engine):
    """A number of tokens that one picture has and another has not keeps the small one whole, as the library does."""
    if "qwen" not in engine.reference.model.config.model_type:
        pytest.skip("its pictures all have as many tokens, but for newlines")
    shown = [picture(33, 60, 60), picture(34, 220, 200)]
    with pytest.warns(Warning, match="keeps all"):
        expected = engine.reference.answer(chat(QUESTION, 2), shown, keep=20)
    same(engine.answer(chat(QUESTION, 2), shown, keep=20), expected)


@pytest.mark.parametrize("engine", ["qwen2_5_vl", "qwen3_vl", "llava_onevision"], indirect=True)
def test_clips(engine, folders):
    """Refused while tokens are to be dropped; whole, they go through beside pictures as in stock vLLM."""
    import numpy as np

    family = engine.reference.model.config.model_type

    frames = np.random.default_rng(0).integers(0, 255, (4, 60, 60, 3), dtype=np.uint8)
    clip = (frames, {"fps": 2.0, "total_num_frames": 4, "frames_indices": [0, 1, 2, 3], "duration": 2.0})
    clip = frames if family == "llava_onevision" else clip
    talk = [{"role": "user", "content": [{"type": "video"}, {"type": "image"}, {"type": "text", "text": QUESTION}]}]
    prompt = {
        "prompt_token_ids": engine.reference.ids(talk), "multi_modal_data": {"video": [clip], "image": [picture(35)]},
    }  # fmt: skip
    with pytest.raises(FoveateError, match="Clips are not pruned inside vLLM"):
        engine.answers([prompt])
    whole = {"mm_processor_kwargs": {"foveate": {"keep": 1.0}}}
    stock = Engine(folders(family), reference=engine.reference, stock=True)
    (found,), (expected,) = engine.answers([prompt | whole]), stock.answers([prompt])
    assert found.tokens == expected.tokens


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pipeline_parallel_size": 2, "distributed_executor_backend": "mp"}, "pipeline parallelism"),
        ({"mm_processor_kwargs": {"foveate": {"keep": 0.1}}}, "--mm-processor-kwargs"),
        ({"video_pruning_rate": 0.5}, "own pruning of clips"),
    ],
)
def test_engines_refused(folders, references, settings, words):
    with pytest.raises(Exception, match=words):
        Engine(folders("qwen2_5_vl"), reference=references("qwen2_5_vl"), **settings)


def test_no_keep(folders):
    from vllm import LLM

    with pytest.raises(Exception, match="Pruning was asked for without a keep"):
        LLM(str(folders("llava")), hf_overrides={"architectures": ["FoveateLlavaForConditionalGeneration"]})


def test_the_last_position(folders, references):
    """Whole pictures may not take the prompt past it; an answer that runs there is answered all the same."""
    short = {"text_config": {"max_position_embeddings": 128}}
    engine = Engine(folders("llava_next"), reference=references("llava_next"), text=short, max_model_len=128)
    shown, talk = [picture(40), picture(41)], chat(QUESTION, 2)
    with pytest.raises(FoveateError, match="tokens long, and the model has 128 positions"):
        engine.answer(talk, shown, keep=3)
    asked = {"keep": 3, "positions": "compact"}
    same(engine.answer(talk, shown, **asked), engine.reference.answer(talk, shown, **asked))
    near = (chat("yes " * count) for count in range(128))
    talk = next(each for each in near if engine.reference.inputs(each, shown[:1])["input_ids"].shape[1] > 120)
    assert len(engine.answer(talk, shown[:1], keep=3).tokens) == 12


def test_a_stock_architecture(folders):
    """Never unpruned in silence."""
    from vllm import LLM

    with pytest.raises(Exception, match=r'put "architectures": \["FoveateLlavaForConditionalGeneration"\] beside it'):
        LLM(str(folders("llava")), hf_overrides={"foveate": {"keep": 0.1}})
