import pytest
import torch

from foveate.models.template import default_template
from foveate.pipeline.question import find_question
from foveate.runtime.load import load
from foveate.world.questions import list_words
from foveate.world.scenes import sample_scene
from training.build import ARCHITECTURES, build_model, build_tokenizer, save_processor

QUESTION = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What color is the star?"}]}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def made(request):
    """An architecture's name, its tokenizer, its model."""
    tokenizer = build_tokenizer(ARCHITECTURES[request.param].chat)
    torch.manual_seed(0)
    return request.param, tokenizer, build_model(request.param, tokenizer).eval()


def test_every_word_of_the_world_is_one_token_and_others_are_spelled(made):
    _, tokenizer, _ = made
    for word in list_words():
        assert len(tokenizer(f" {word}").input_ids) == 1, word
    for index in range(300):
        for thing in sample_scene(5, index).things:
            assert len(tokenizer(f" {thing.text}").input_ids) == len(thing.text)
    strange = " Wie heißt das? 你好"
    assert tokenizer.decode(tokenizer(strange).input_ids) == strange.lower()


def test_the_question_is_found_in_its_template(made):
    _, tokenizer, model = made
    answered = [QUESTION, {"role": "assistant", "content": "red"}, {"role": "user", "content": "and the circle?"}]
    for turns, expected in (([QUESTION], "what color is the star?"), (answered, "and the circle?")):
        text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text).input_ids
        template = default_template(model.config, [tokenizer.eos_token_id])
        where = find_question(ids, ids.index(model.config.image_token_id), template, [False] * len(ids))
        assert tokenizer.decode([ids[i] for i in where]).strip() == expected


def test_it_fits_the_package_and_loads_from_its_folder(made, tmp_path):
    name, tokenizer, model = made
    assert 2 * sum(p.numel() for p in model.parameters()) < 16e6
    model.save_pretrained(tmp_path)
    save_processor(name, tokenizer, tmp_path)
    loaded = load(str(tmp_path))
    text = loaded.processor.apply_chat_template([QUESTION], add_generation_prompt=True)
    assert text.lower().count("what color is the star?") == 1
    assert loaded.processor.tokenizer(text).input_ids == tokenizer(text).input_ids
