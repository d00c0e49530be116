"""Training data has the form in which the finished model gets its inputs."""

import numpy as np
import pytest
import torch

from foveate.models import family_of
from foveate.models.sequence import IGNORED_LABEL
from foveate.runtime.load import load
from foveate.world.drawing import draw_scene
from foveate.world.questions import TASKS, Question
from foveate.world.scenes import sample_scene
from training.build import ARCHITECTURES, build_model, build_tokenizer, save_processor
from training.data import HEADS, PIXELS, SYMBOLS, BatchDataset, make_labels, make_symbols, pack
from training.plans import TrainingStage

QUESTIONS = [
    Question("attribute", "color", "what color is the star?", "red"),
    Question("reading", "word", "read the sign", "tok"),
    Question("caption", "scene", "describe the picture", "red star b3"),
]
STAGE = TrainingStage(
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
    save_processor(request.param, tokenizer, folder)
    return request.param, load(str(folder))


@torch.no_grad()
def test_packed_questions_are_single_question_prompts(loaded):
    """A question in a packed row gets the logits that it gets alone, through the processor and the stock model."""
    name, (model, processor) = loaded[0], (loaded[1].model, loaded[1].processor)
    chat, scenes = ARCHITECTURES[name].chat, [sample_scene(0, i) for i in range(2)]
    heads = [HEADS[name](scene, chat, processor.tokenizer) for scene in scenes]
    packed = pack(heads, [QUESTIONS[:1], QUESTIONS], chat, processor.tokenizer)
    inputs = {k: packed[k] for k in ("input_ids", "position_ids", "attention_mask")}
    together = model(**inputs, **PIXELS[name](scenes)).logits[1]
    places = (packed["labels"][1] != IGNORED_LABEL).nonzero()[:, 0].tolist()
    for question in QUESTIONS:
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


def test_labels_have_the_order_of_the_encoder_s_patches(loaded):
    name, model = loaded[0], loaded[1].model
    scenes = [sample_scene(0, i) for i in range(3)]
    labels, pixels = make_labels(name, scenes), PIXELS[name](scenes)
    sizes = [len(f) for f in family_of(model).features(family_of(model).encode(model, pixels))]
    per_token = 1 if name == "llava" else 4
    assert len(labels["form"]) == per_token * sum(sizes)
    if name == "qwen":  # the patch's own pixels: white squares lie where white is
        assert len(pixels["pixel_values"]) == len(labels["form"])
        bright = pixels["pixel_values"].mean(1)
        white = (labels["color"] == 1 + list_of_colors().index("white")) & (labels["glyph"] == 0)
        if bool(white.any()):
            assert bright[white].mean() > bright[~white].mean() + 0.3


def list_of_colors():
    from foveate.world.scenes import POPULARITY

    return list(POPULARITY)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_symbols_take_the_place_of_the_tokens_that_show_something(name):
    architecture, scenes = ARCHITECTURES[name], [sample_scene(0, i) for i in range(4)]
    tokenizer = build_tokenizer(architecture.chat)
    heads, whole = [HEADS[name](scene, architecture.chat, tokenizer) for scene in scenes], make_labels(name, scenes)
    kept_labels, shorter = make_symbols(name, whole, heads, tokenizer, np.random.default_rng(0))
    per_token, image = (1 if name == "llava" else 4), tokenizer.convert_tokens_to_ids(tokenizer.image_token)
    shown = (whole["form"].reshape(-1, per_token) > 0).any(1)
    kept = sum(ids.count(image) for ids, _, _ in shorter)
    assert shown.sum() <= kept <= shown.sum() + 0.1 * len(shown)
    assert {len(kept_labels[key]) for key in SYMBOLS} == {per_token * kept}
    for (ids, places, follows), (full_ids, full_places, full_follows) in zip(shorter, heads, strict=True):
        full = list(zip(full_ids, full_places, strict=True))
        assert all(pair in full for pair in zip(ids, places, strict=True)), "Every token stays where it was."
        assert [i for i in ids if i != image] == [i for i in full_ids if i != image]
        assert follows == full_follows
    missed = 1 - (kept_labels["form"] > 0).sum() / (whole["form"] > 0).sum()
    assert 0.03 < missed < 0.2, "Some labels are left out."


@pytest.mark.parametrize("content", ["images", "symbols", "both"])
def test_a_step_is_the_same_in_every_run(content):
    for name, architecture in ARCHITECTURES.items():
        tokenizer = build_tokenizer(architecture.chat)
        data, again = (BatchDataset(name, STAGE, tokenizer, content, seed=0) for _ in range(2))
        first, other = data[1], BatchDataset(name, STAGE, tokenizer, content, seed=1)[1]
        assert all(torch.equal(value, again[1][key]) for key, value in first.items())
        assert any(first[key].shape != other[key].shape or not torch.equal(first[key], other[key]) for key in first)
        assert ("pixel_values" in first, "labels" in first) == (content != "symbols", content != "images")
