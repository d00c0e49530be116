"""What training shows is what the finished model is asked."""

import numpy as np
import pytest
import torch

from foveate.models import family_of
from foveate.models.sequence import IGNORED_LABEL
from foveate.runtime.load import load
from foveate.world.drawing import draw_scene
from foveate.world.questions import TASKS, Question
from foveate.world.scenes import sample_scene
from training.build import ARCHITECTURES, build_model, build_processor, build_tokenizer
from training.data import HEADS, PIXELS, SYMBOLS, Stage, Steps, labels, pack, symbols

ASKED = [
    Question("attribute", "color", "what color is the star?", "red"),
    Question("reading", "word", "read the sign", "tok"),
    Question("caption", "scene", "describe the picture", "red star b3"),
]
STAGE = Stage(
    steps=3,
    batch=3,
    horizon=3,
    rate=1e-3,
    stream=0,
    questions=4,
    captions=1,
    drills=1,
    scenes={"scene": 1, "variety": 1},
    diet=dict.fromkeys(TASKS, 1),
)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def loaded(request, tmp_path_factory):
    tokenizer = build_tokenizer(ARCHITECTURES[request.param].chat)
    torch.manual_seed(0)
    model, folder = build_model(request.param, tokenizer), tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    build_processor(request.param, tokenizer, folder)
    return request.param, load(str(folder))


@torch.no_grad()
def test_packed_questions_are_single_question_prompts(loaded):
    """A question in a packed row gets the logits that it gets alone, through the processor and the stock model."""
    name, (model, processor) = loaded[0], (loaded[1].model, loaded[1].processor)
    chat, scenes = ARCHITECTURES[name].chat, [sample_scene(0, i) for i in range(2)]
    heads = [HEADS[name](scene, chat, processor.tokenizer) for scene in scenes]
    packed = pack(heads, [ASKED[:1], ASKED], chat, processor.tokenizer)
    inputs = {k: packed[k] for k in ("input_ids", "position_ids", "attention_mask")}
    together = model(**inputs, **PIXELS[name](scenes)).logits[1]
    places = (packed["labels"][1] != IGNORED_LABEL).nonzero()[:, 0].tolist()
    for question in ASKED:
        content = [{"type": "image"}, {"type": "text", "text": question.text}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        alone = processor(
            text=[f"{prompt} {question.answer}{chat.end}"], images=[draw_scene(scenes[1])], return_tensors="pt"
        )
        length = len(processor.tokenizer(f" {question.answer}{chat.end}").input_ids)
        mine, places = places[:length], places[length:]
        assert packed["input_ids"][1, mine].tolist() == alone["input_ids"][0, -length:].tolist()
        logits = model(**alone).logits[0, -length - 1 : -1]
        assert torch.allclose(together[[p - 1 for p in mine]], logits, atol=2e-4)
    assert not places


def test_labels_lie_as_the_tower_gives_its_patches(loaded):
    name, model = loaded[0], loaded[1].model
    scenes = [sample_scene(0, i) for i in range(3)]
    found, pixels = labels(name, scenes), PIXELS[name](scenes)
    sizes = [len(f) for f in family_of(model).features(family_of(model).encode(model, pixels))]
    per_token = 1 if name == "llava" else 4
    assert len(found["form"]) == per_token * sum(sizes)
    if name == "qwen":  # the patch's own pixels: white squares lie where white is
        assert len(pixels["pixel_values"]) == len(found["form"])
        bright = pixels["pixel_values"].mean(1)
        white = (found["color"] == 1 + list_of_colors().index("white")) & (found["glyph"] == 0)
        if bool(white.any()):
            assert bright[white].mean() > bright[~white].mean() + 0.3


def list_of_colors():
    from foveate.world.scenes import POPULARITY

    return list(POPULARITY)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_symbols_take_the_place_of_the_tokens_that_show_something(name):
    architecture, scenes = ARCHITECTURES[name], [sample_scene(0, i) for i in range(4)]
    tokenizer = build_tokenizer(architecture.chat)
    heads, whole = [HEADS[name](scene, architecture.chat, tokenizer) for scene in scenes], labels(name, scenes)
    found, shorter = symbols(name, whole, heads, tokenizer, np.random.default_rng(0))
    per_token, image = (1 if name == "llava" else 4), tokenizer.convert_tokens_to_ids(tokenizer.image_token)
    shown = (whole["form"].reshape(-1, per_token) > 0).any(1)
    kept = sum(ids.count(image) for ids, _, _ in shorter)
    assert shown.sum() <= kept <= shown.sum() + 0.1 * len(shown)
    assert {len(found[key]) for key in SYMBOLS} == {per_token * kept}
    for (ids, places, follows), (full_ids, full_places, full_follows) in zip(shorter, heads, strict=True):
        full = list(zip(full_ids, full_places, strict=True))
        assert all(pair in full for pair in zip(ids, places, strict=True)), "Every token stays where it was."
        assert [i for i in ids if i != image] == [i for i in full_ids if i != image]
        assert follows == full_follows
    missed = 1 - (found["form"] > 0).sum() / (whole["form"] > 0).sum()
    assert 0.03 < missed < 0.2, "Sight is not perfect."


@pytest.mark.parametrize("shows", ["pictures", "symbols", "both"])
def test_a_step_is_the_same_whenever_it_is_drawn(shows):
    for name, architecture in ARCHITECTURES.items():
        tokenizer = build_tokenizer(architecture.chat)
        data, again = (Steps(name, STAGE, tokenizer, shows, seed=0) for _ in range(2))
        first, other = data[1], Steps(name, STAGE, tokenizer, shows, seed=1)[1]
        assert all(torch.equal(value, again[1][key]) for key, value in first.items())
        assert any(first[key].shape != other[key].shape or not torch.equal(first[key], other[key]) for key in first)
        assert ("pixel_values" in first, "labels" in first) == (shows != "symbols", shows != "pictures")
