"""The tiled model starts as `bundled` seen through larger patches; its training data is what its processor makes."""

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from foveate.models import family_of
from foveate.models.sequence import IGNORED_LABEL
from foveate.runtime.load import load
from foveate.world.drawing import draw_scene
from foveate.world.pages import CELLS_OF_SIDE, SIDES, sample_page
from foveate.world.scenes import sample_scene
from training import pages, train_tiled
from training.build import LLAVA
from training.data import stack_pixels
from training.labels import make_patch_labels
from training.pages import PageBatches, SightBatches, cut_pixels, cut_tile, make_tiled_head
from training.plans import PLANS, TrainingStage
from training.tiled import (
    GRID,
    TILE,
    TILE_PATCH,
    build_tiled,
    build_tiled_processor,
    build_tiled_tokenizer,
    enlarge_kernel,
)
from training.vision import get_tower

STAGE = TrainingStage(steps=4, batch=1, horizon=4, rate=1e-3, stream=0, questions=2, scenes={"scene": 1})


@pytest.fixture(scope="module")
def bundled():
    return load("bundled", dtype=torch.float32).model.eval()


@pytest.fixture(scope="module")
def tokenizer():
    return build_tiled_tokenizer()


@pytest.fixture(scope="module")
def model(bundled, tokenizer):
    torch.manual_seed(0)
    return build_tiled(tokenizer, bundled).eval()


@pytest.fixture(scope="module")
def processor(tokenizer):
    return build_tiled_processor(tokenizer)


def test_a_larger_kernel_sees_the_image_scaled_down():
    kernel, image = torch.randn(5, 3, 8, 8), torch.randn(2, 3, 28, 28)
    small = F.interpolate(image.repeat_interleave(4, 2).repeat_interleave(4, 3), size=16, mode="area")
    expected = F.conv2d(small, kernel, stride=8)
    torch.testing.assert_close(F.conv2d(image, enlarge_kernel(kernel, 14), stride=14), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_encoder_sees_what_that_of_bundled_sees(bundled, model):
    image = draw_scene(sample_scene(9, 1, "crowd"))
    large, small = (stack_pixels([image.resize((side, side), Image.Resampling.BICUBIC)]) for side in (TILE, 192))
    seen, expected = (
        get_tower(each)(pixels, output_hidden_states=True).hidden_states[-2]
        for each, pixels in ((model, large), (bundled, small))
    )
    assert (seen - expected).square().mean() < 0.01 * expected.var()


def test_ids_of_bundled_are_the_same_and_a_mark_of_a_tile_is_one(bundled, tokenizer):
    words = tokenizer("USER: what color is the star? TILE_1 TILE_36TILE_GLOBAL").input_ids
    assert max(words[:-4]) < bundled.config.text_config.vocab_size
    assert tokenizer.convert_ids_to_tokens(words[-2:]) == ["TILE_36", "TILE_GLOBAL"]


@pytest.mark.parametrize("side", SIDES)
def test_pages_are_cut_as_the_processor_cuts_them(processor, side):
    page = draw_scene(sample_page(1, 0, "sheet", side))
    expected = processor.image_processor([page], return_tensors="pt")
    parts = stack_pixels(cut_pixels(page, *[CELLS_OF_SIDE[side] // 2] * 2))
    assert expected.num_patches.tolist() == [len(parts)]
    assert (parts - expected.pixel_values).abs().max() < 2 / 127  # a rounding of the processor's


def test_a_cut_tile_has_the_labels_of_its_part_of_the_page():
    page, tiles = sample_page(1, 1, "sheet", 896), 3
    whole = make_patch_labels(page, tiles * GRID, tiles * GRID, TILE_PATCH)
    for name in ("form", "color", "glyph"):
        parts = getattr(whole, name).reshape(tiles, GRID, tiles, GRID).swapaxes(1, 2).reshape(tiles**2, -1)
        for number, part in enumerate(parts):
            labels = make_patch_labels(cut_tile(page, tiles, *divmod(number, tiles)), GRID, GRID, TILE_PATCH)
            assert (getattr(labels, name) == part).mean() > 0.99, name  # edges of forms are rounded once


def test_prompts_are_the_processors_without_some_placeholders(model, tokenizer, processor):
    data = PageBatches(STAGE, tokenizer, 0)
    page = sample_page(1, 0, "form", 672)
    expected = processor(
        text=["USER: <image>\n which number"], images=[[draw_scene(page)]], return_tensors="pt"
    ).input_ids[0]
    kept = torch.rand(5 * GRID**2) < 0.5
    ids, places, follows = make_tiled_head(data.processor, LLAVA, 5, kept.numpy())
    assert expected[[place for (place,) in places]].tolist() == ids
    assert follows == len(expected) - 2
    marks = family_of(model).placeholders(model.config, {"input_ids": torch.tensor([ids])})
    assert int(marks.sum()) == int(kept.sum())


def test_batches_hold_tokens_for_their_placeholders(model, tokenizer, monkeypatch):
    monkeypatch.setattr(pages, "EASY", 1)
    monkeypatch.setattr(pages, "SHARES", dict.fromkeys((pages.SINGLE, TILE, 672, 896), 1))
    for step in range(STAGE.steps):
        batch = PageBatches(STAGE, tokenizer, 0)[step]
        images = len(batch["kept"]) // GRID**2
        assert batch["pixel_values"].shape == (images, 3, TILE, TILE)
        assert int((batch["input_ids"] == model.config.image_token_id).sum()) == int(batch["kept"].sum())
        assert bool((batch["labels"] != IGNORED_LABEL).any(1).all())
        sight = SightBatches(STAGE, 0)[step]
        assert len(sight["form"]) == len(sight["pixel_values"]) * GRID**2


def test_shrunk_sheets_come_as_one_tile_with_questions_that_need_no_text(tokenizer, monkeypatch):
    sampled = []
    monkeypatch.setattr(pages, "EASY", 0)
    monkeypatch.setattr(pages, "SHARES", {pages.SHRUNK: 1})
    monkeypatch.setattr(pages, "IMAGES", {pages.SHRUNK: 3})
    monkeypatch.setattr(pages, "pack", lambda heads, questions, *rest: sampled.extend(questions) or {})
    batch = PageBatches(STAGE, tokenizer, 0)[0]
    assert batch["pixel_values"].shape == (3, 3, TILE, TILE)
    assert len(batch["kept"]) == 3 * GRID**2
    for questions in sampled:
        assert sum(question.task == "tally" for question in questions) > len(questions) / 2
        assert not {question.variant for question in questions} & {"number", "word"}
    assert len(sampled) == 3


def test_a_run_resumes_and_leaves_a_model_that_loads(tmp_path, monkeypatch, tokenizer):
    monkeypatch.setattr(train_tiled, "HEADS", STAGE)
    monkeypatch.setattr(train_tiled, "SIGHT", STAGE)
    monkeypatch.setattr(train_tiled, "PAGES", STAGE)
    monkeypatch.setattr(train_tiled, "MATCHED", 4)
    for name in ("EASY_SHARES", "SHARES"):
        monkeypatch.setattr(pages, name, {pages.SINGLE: 1, TILE: 1, 672: 1})
    monkeypatch.setattr(pages, "IMAGES", {pages.SINGLE: 2, TILE: 1, 672: 1})
    plan = PLANS["llava"]
    folder = train_tiled.train(plan, tmp_path)
    first = (folder / "model.safetensors").read_bytes()
    (tmp_path / "pages.pt").unlink()
    assert train_tiled.train(plan, tmp_path) == folder
    assert (folder / "model.safetensors").read_bytes() == first
    loaded = load(str(folder))
    assert loaded.model.config.model_type == "aya_vision"
