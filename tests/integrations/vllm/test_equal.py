"""Greedy tokens and their probabilities are those of `prune_inputs` and transformers, for every family."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from integrations.vllm.models import FAMILIES, MARKED_FAMILIES, chat, make_image, read_kind
from integrations.vllm.sides import assert_same

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

QUESTIONS = ("how many circles are there", "what is in the image a red square")


pytestmark = pytest.mark.parametrize("engine", [*FAMILIES, *MARKED_FAMILIES], indirect=True)


def test_families_of_a_kind(engine, request):
    """By which the other tests take one of each kind."""
    assert type(engine.model).__bases__[0].__name__ == read_kind(request.node.callspec.params["engine"])


@pytest.mark.parametrize("keep", [0.3, 3, 1.0])
@pytest.mark.parametrize("positions", ["original", "compact"])
def test_one_image(engine, keep, positions):
    for seed, question in enumerate(QUESTIONS):
        images, settings = [make_image(seed, 200 - 70 * seed, 150)], {"keep": keep, "positions": positions}
        engine.check_answer(chat(question), images, **settings)


def test_several_images(engine):
    images = [make_image(2), make_image(3, 90, 90), make_image(4, 60, 160)]
    for keep in (0.3, 1.0):
        expected = engine.reference.answer(chat(QUESTIONS[0], 3), images, keep=keep)
        assert_same(engine.answer(chat(QUESTIONS[0], 3), images, keep=keep), expected)


def test_the_server_s_own_settings(engine):
    engine.check_answer(chat("yes"), [make_image(5)])


def test_text_alone(engine):
    engine.check_answer(chat(QUESTIONS[0], 0), [])


def test_no_question(engine):
    engine.check_answer(chat(""), [make_image(6)])


@pytest.mark.parametrize("method", ["divprune", "zspaprune", "cdpruner", "coin", "grid"])
def test_methods(engine, method):
    settings = {"keep": 0.3, "method": method}
    engine.check_answer(chat("what"), [make_image(7)], **settings)


def test_the_answers_depend_on_what_is_kept_and_where(engine):
    """Otherwise equality would prove nothing."""
    images, question = [make_image(8)], chat(QUESTIONS[1])
    whole, few, moved = (
        engine.answer(question, images, **settings)
        for settings in ({"keep": 1.0}, {"keep": 3}, {"keep": 3, "positions": "compact"})
    )
    grid = engine.answer(question, images, keep=3, method="grid")
    for other in (few, grid):
        assert abs(whole.logprobs[0][whole.tokens[0]] - other.logprobs[0].get(whole.tokens[0], -99)) > 0.02
    assert few.logprobs[0] != grid.logprobs[0]
    assert max(abs(few.logprobs[0][i] - moved.logprobs[0].get(i, -99)) for i in few.logprobs[0]) > 0.02


def test_a_whole_image_is_counted_before_it_is_processed(engine):
    """Else a prompt that is too long for the model's positions would not be refused."""
    from vllm.multimodal import MULTIMODAL_REGISTRY

    processor = MULTIMODAL_REGISTRY.create_processor(engine.llm.model_config)
    if not hasattr(processor, "count_image_tokens"):
        pytest.skip("its positions have no such limit")
    talk = chat("what")
    for width, height in ((200, 150), (60, 160), (90, 90), (30, 300)):
        whole = engine.reference.inputs(talk, [make_image(9, width, height)])["input_ids"].shape[1]
        count = processor.count_image_tokens(SimpleNamespace(width=width, height=height))
        assert count == whole - len(engine.reference.ids(talk)) + 1


def test_vllm_sets_room_aside_for_almost_all_of_the_largest_image(engine):
    """Where a token is dropped, the words among an image's tokens are rows of the encoder's cache too."""
    from vllm.multimodal import MULTIMODAL_REGISTRY
    from vllm.multimodal.encoder_budget import MultiModalBudget
    from vllm.multimodal.processing.context import TimingContext

    config = engine.llm.llm_engine.vllm_config
    processor = MULTIMODAL_REGISTRY.create_processor(config.model_config)
    limits = config.model_config.get_multimodal_config().limit_per_prompt
    for modality, room in MultiModalBudget(config, MULTIMODAL_REGISTRY).mm_max_toks_per_item.items():
        for keep in (0.9, 0.99) if modality in processor.modalities else ():
            inputs = processor.get_dummy_inputs(config.model_config.max_model_len, {modality: 1}, limits)
            inputs.hf_processor_mm_kwargs = {"foveate": {"keep": keep}}
            made = processor.apply(inputs, TimingContext(enabled=False))
            assert sum(place.get_num_embeds() for place in made["mm_placeholders"][modality]) <= room
