"""Some windows encoded: which they are, what stands in their places and in the others, and what is refused."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.conformance.encoding import SHARE, WIDE
from foveate.errors import InputError, ModelError
from foveate.models import lookup
from foveate.models.encoder_memory import count_patches
from foveate.models.patch_encoder import PatchEncoder, read_levels
from foveate.models.windows import plan_windows, shrink_patches
from foveate.pipeline.glance import glance
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.tiles import WHOLE
from foveate.pipeline.windows import BOUNDED, ONE_WINDOW
from tests.models.test_patch_encoder import run_masked
from tests.pipeline.test_tiles import At
from tests.policies import make_policy

pytestmark = pytest.mark.filterwarnings("ignore:.*generation_config.*:Warning")
FAMILIES = [name for name in lookup.available() if isinstance(lookup.family(name), PatchEncoder)]
KINDS = ["qwen2_5_vl", "qwen2_vl", "qwen3_vl"]  # with windows, without, and with learned positions and DeepStack
GRID = (6, 10)  # of the only image large enough, the fifth, in merge units


def make(model_type, rows=WIDE, **settings):
    family = lookup.family(model_type)
    model = make_tiny_model(family, **settings)
    return model, family, make_batch(model, family, rows)


def count_patches_of(model, family, call):
    """How many patches go through the tower while `call` runs, call by call, and what it returns."""
    counts = []
    embed = family.vision_tower(model).patch_embed
    handle = embed.register_forward_pre_hook(lambda _, args: counts.append(len(args[0])))
    try:
        return counts, call()
    finally:
        handle.remove()


def side_of(model_type):
    """Merge units along a side of a window of the tiny model."""
    return 2 if model_type.startswith(("qwen2_5", "exaone", "hyperclovax")) else 4


def units_of(marks, side):
    """(60,) bool: the units of the marked windows of the fifth image."""
    rows, columns = GRID
    across = -(-columns // side)
    window = torch.arange(rows)[:, None] // side * across + torch.arange(columns) // side
    return torch.tensor(marks)[window.flatten()]


@pytest.mark.parametrize("model_type", FAMILIES)
@torch.no_grad()
def test_what_enters_the_prompt(model_type):
    """Windows as in the tower that sees them alone; elsewhere every token of the image at half its side, once."""
    model, family, inputs = make(model_type, [(5, 5)])
    short = prune_inputs(model, inputs, keep=1.0, encode=SHARE)
    items = short.report.items
    item = items[4]
    units = units_of(item.encoded, side_of(model_type))
    assert item.encoded_share == (15 + int(units.sum())) / 60 <= SHARE
    assert 0 < sum(item.encoded) < len(item.encoded)
    chosen = [torch.zeros(each.total, dtype=torch.bool) for each in items[:4]] + [units]
    look = encode_half(model, family, inputs)
    places = [row * 10 + column for row in (1, 3, 5) for column in (1, 3, 5, 7, 9)]
    kept = [place for place in range(60) if units[place] or place in places]
    assert item.kept.tolist() == kept
    assert item.glanced.nonzero().squeeze(1).tolist() == [place for place in places if not units[place]]
    masked = run_masked(model, family, inputs, "image", chosen)
    whole = family.encode(model, inputs)
    output = dict(short)["mm_encoder_outputs"]["image"]
    for mine, fine, coarse, stock in zip(*map(read_levels, (output, masked, look, whole)), strict=True):
        tokens = torch.cat(list(mine)).flatten(0, -2).split([len(each.kept) for each in items])
        expected = [fine[4][place] if units[place] else coarse[0][places.index(place)] for place in kept]
        assert torch.allclose(tokens[4], torch.stack(expected), atol=1e-5)
        for each, own, every in zip(items, tokens, stock, strict=True):
            assert each.encoded or torch.allclose(own, every, atol=1e-5)


def encode_half(model, family, inputs):
    """The stock features of the fifth image at half its side: the mean of every 2 x 2 pixels."""
    size = model.config.vision_config.patch_size
    pixels = inputs["pixel_values"][-240:].reshape(6, 10, 2, 2, -1, size, size)
    image = pixels.permute(4, 0, 2, 5, 1, 3, 6).reshape(-1, 12 * size, 20 * size)
    half = image.reshape(len(image), 6 * size, 2, 10 * size, 2).mean((2, 4))
    cells = half.reshape(len(image), 3, 2, size, 5, 2, size).permute(1, 4, 2, 5, 0, 3, 6)
    small = {"pixel_values": cells.reshape(60, -1), "image_grid_thw": torch.tensor([[1, 6, 10]])}
    return family.encode(model, small)


@pytest.mark.parametrize("share", [0.05, 0.25, 0.4, 0.5, 0.9])
@pytest.mark.parametrize("model_type", KINDS)
@torch.no_grad()
def test_only_so_much_goes_through_the_tower(model_type, share):
    model, family, inputs = make(model_type, [(5, 3)])
    counts, short = count_patches_of(model, family, lambda: prune_inputs(model, inputs, keep=0.4, encode=share))
    spent = [round(item.encoded_share * item.total) for item in short.report.items]
    assert sum(counts) == 4 * sum(spent)
    item = short.report.items[4]
    assert spent[4] <= max(share * 60, 15 + side_of(model_type) ** 2)
    assert spent[4] >= min(share * 60 - side_of(model_type) ** 2, 60)
    assert item.kept.max() < item.total == len(item.absent) == 60
    assert not item.absent[item.kept].any()


@pytest.mark.parametrize("model_type", KINDS)
@torch.no_grad()
def test_all_is_one_call_and_the_stock_features(model_type):
    model, family, inputs = make(model_type)
    counts, short = count_patches_of(model, family, lambda: prune_inputs(model, inputs, keep=0.4, encode=1.0))
    assert len(counts) == 1
    assert all(item.encoded == () and item.encoded_share == 1 for item in short.report.items)
    plain = prune_inputs(model, inputs, keep=0.4)
    levels = (read_levels(dict(each)["mm_encoder_outputs"]["image"]) for each in (short, plain))
    assert all(torch.equal(torch.cat(list(a)), torch.cat(list(b))) for a, b in zip(*levels, strict=True))


@pytest.mark.parametrize(("cell", "window"), [(0, 0), (4, 4), (7, 7), (10, 10), (14, 14)])
@torch.no_grad()
def test_the_window_under_the_most_relevant_token_is_encoded(cell, window):
    model, _, inputs = make("qwen2_5_vl", [(5, 4)])
    marks = prune_inputs(model, inputs, keep=0.4, encode=0.5, method=At(cell)).report.items[4].encoded
    assert marks[window]  # windows of 2 x 2 units, of which the half-size image has one token each
    assert sum(marks) == 3  # half of 60 units less the glance's 15 leaves room for 3 windows of 4


@pytest.mark.parametrize("method", ["divprune", "random", "grid", "cdpruner", "glance", "mmtok"])
@pytest.mark.parametrize("keep", [1.0, 3, 0.4])
@torch.no_grad()
def test_methods_and_budgets(method, keep):
    model, _, inputs = make("qwen2_5_vl")
    short = prune_inputs(model, inputs, keep=keep, encode=0.6, method=method)
    item = short.report.items[4]
    assert not item.absent[item.kept].any()
    assert keep == 1.0 or len(item.kept) == (3 if keep == 3 else 24)
    assert bool(model(**short).logits.isfinite().all())
    assert (short.report.glance_seconds > 0) == (method == "glance")


@pytest.mark.parametrize("keep", [1.0, 0.3])
@torch.no_grad()
def test_the_first_look_is_at_all_of_the_smaller_image(keep, monkeypatch):
    model, _, inputs = make("qwen2_5_vl", [(5, 4)])
    looks = []

    def look_at(*args, **settings):
        looks.append(glance(*args, **settings))
        return looks[-1]

    monkeypatch.setattr("foveate.pipeline.windows.glance", look_at)
    short = prune_inputs(model, inputs, keep=keep, encode=0.5, method="glance")
    places = [row * 10 + column for row in (1, 3, 5) for column in (1, 3, 5, 7, 9)]
    assert [item.look.tolist() for item in looks[0]][4] == places
    assert bool((looks[0][4].attention > 0).all())  # spread over what lies around
    assert short.report.glance_seconds > 0
    assert (short.report.items[4].look is None) == (keep == 1.0)


@torch.no_grad()
def test_images_that_are_encoded_whole_and_videos():
    model, family, inputs = make("qwen2_vl", [(("image", "video"), 5), (0, 3)])
    short = prune_inputs(model, inputs, keep=0.4, encode=0.5)
    assert set(short.report.notes) >= {WHOLE, ONE_WINDOW}
    assert all(item.absent is None and item.encoded == () for item in short.report.items)
    plain = prune_inputs(model, inputs, keep=0.4)
    assert torch.equal(model(**short).logits, model(**plain).logits)
    texts = make_batch(model, family, [(0, 4)])
    assert not prune_inputs(model, texts, keep=0.4, encode=0.5).report.items


def test_gradients_reach_the_tower_from_windows_and_glance():
    model, family, inputs = make("qwen3_vl", [(5, 4)])
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[:, -2:] = inputs["input_ids"][:, -2:]
    pixels = inputs["pixel_values"].requires_grad_()
    short = prune_inputs(model, {**inputs, "labels": labels}, keep=1.0, encode=0.5)
    model(**short).loss.backward()
    assert bool(pixels.grad.isfinite().all())
    assert bool(pixels.grad.any(-1).all())  # all patches are seen, at one size at least
    first = next(module for module in family.vision_tower(model).modules() if isinstance(module, nn.Conv3d))
    assert bool(first.weight.grad.any())


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_vl"])
@torch.no_grad()
def test_generate_under_pruning_encodes_some_windows(model_type):
    model, _, inputs = make(model_type, [(5, 4)])
    with foveate.pruning(model, keep=0.4, encode=0.5) as handle:
        out = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    short = prune_inputs(model, inputs, keep=0.4, encode=0.5)
    assert [item.encoded for item in handle.report.items] == [item.encoded for item in short.report.items]
    assert torch.equal(out[:, -3:], model.generate(**short, max_new_tokens=3, do_sample=False)[:, -3:])


def memory_for(model, family, patches):
    """The least `max_encoder_memory` for so many patches at once."""
    tower = family.vision_tower(model)
    return next(bytes for bytes in range(patches * 1000, 10**9, 1000) if count_patches(tower, bytes) >= patches)


@pytest.mark.parametrize("encode", [1.0, 0.3])
@pytest.mark.parametrize("patches", [160, 80])
@pytest.mark.parametrize("model_type", KINDS)
@torch.no_grad()
def test_memory_is_bounded_by_groups_and_by_parts(model_type, patches, encode):
    model, family, inputs = make(model_type, [(5, 5), (("video", "image"), 4)])
    memory = memory_for(model, family, patches)
    settings = {"keep": 0.4, "encode": encode, "max_encoder_memory": memory}
    counts, short = count_patches_of(model, family, lambda: prune_inputs(model, inputs, **settings))
    assert max(counts) <= patches
    items = short.report.items
    assert items[4].encoded_share <= min(encode, patches / 240) + 1e-9
    assert (BOUNDED in short.report.notes) == (patches / 240 < encode)
    assert items[4].absent is not None
    assert bool(model(**short).logits.isfinite().all())
    if encode == 1.0:
        assert all(item.absent is None for item in (*items[:4], *items[5:]))


@torch.no_grad()
def test_memory_that_is_enough_changes_nothing():
    model, family, inputs = make("qwen3_vl", [(5, 5), (("video", "image"), 4)])
    plain = model(**prune_inputs(model, inputs, keep=0.4)).logits
    for patches, is_exact in ((600, True), (240, False)):
        memory = memory_for(model, family, patches)
        short = prune_inputs(model, inputs, keep=0.4, max_encoder_memory=memory)
        logits = model(**short).logits
        assert torch.equal(logits, plain) if is_exact else torch.allclose(logits, plain, atol=1e-5)
        assert all(item.absent is None and item.encoded_share == 1 for item in short.report.items)
        assert short.report.notes == prune_inputs(model, inputs, keep=0.4).report.notes
    encoded = foveate.encode(model, inputs)
    again = prune_inputs(model, inputs, keep=0.4, max_encoder_memory=1, encoded=encoded)
    assert torch.equal(model(**again).logits, plain)


@torch.no_grad()
def test_memory_is_bounded_under_pruning_too():
    model, family, inputs = make("qwen3_vl", [(5, 4)])
    memory = memory_for(model, family, 100)
    with foveate.pruning(model, keep=0.4, max_encoder_memory=memory) as handle:
        counts, _ = count_patches_of(model, family, lambda: model.generate(**inputs, max_new_tokens=2))
    assert max(counts) <= 100
    assert BOUNDED in handle.report.notes
    with pytest.raises(InputError, match=r"^max_encoder_memory=.* is no number of bytes"):
        foveate.attach(model, keep=0.4, max_encoder_memory=0)
    for method in ("fastv", "pyramiddrop"):
        with pytest.raises(InputError, match=f"^max_encoder_memory=.* is not for {method}, which leaves the encoder"):
            foveate.attach(model, keep=0.4, method=method, max_encoder_memory=10**9)


@pytest.mark.parametrize("memory", [0, -1, 1.5, "2GiB", True, float("inf")])
def test_memory_that_is_none(memory):
    model, _, inputs = make("qwen2_5_vl")
    with pytest.raises(InputError, match=r"^max_encoder_memory=.* is no number of bytes: give one"):
        prune_inputs(model, inputs, keep=0.4, max_encoder_memory=memory)


def test_memory_that_is_too_little_or_of_another_family():
    model, family, inputs = make("qwen2_5_vl")
    with pytest.raises(InputError, match="raise it, or make the image or video smaller"):
        prune_inputs(model, inputs, keep=0.4, max_encoder_memory=memory_for(model, family, 8))
    for show in ("image", "video"):
        batch = make_batch(model, family, [((show,), 3)])
        with pytest.raises(InputError, match="is enough for 0 of the tokens of an image or frame"):
            prune_inputs(model, batch, keep=0.4, max_encoder_memory=1)
    memory = memory_for(model, family, 100)
    with pytest.raises(InputError, match='add "image" to modalities'):
        prune_inputs(model, inputs, keep=0.4, method="glance", modalities=("video",), max_encoder_memory=memory)
    with pytest.raises(InputError, match="a policy was calibrated on whole images: raise it"):
        prune_inputs(model, inputs, keep=make_policy(model), max_encoder_memory=memory_for(model, family, 100))
    other = make_tiny_model(lookup.family("llava"))
    batch = make_batch(other, lookup.family("llava"), [(1, 3)])
    with pytest.raises(ModelError, match="max_encoder_memory is for towers that take tiles or patches"):
        prune_inputs(other, batch, keep=0.4, max_encoder_memory=10**9)


def test_calls_in_which_nothing_can_be_left_out():
    model, _, inputs = make("qwen2_5_vl")
    with pytest.raises(InputError, match="came encoded"):
        prune_inputs(model, inputs, keep=0.4, encode=0.5, encoded=foveate.encode(model, inputs))
    with pytest.raises(InputError, match=r"encode=0\.5 is not for a policy"):
        prune_inputs(model, inputs, keep=make_policy(model), encode=0.5)
    with pytest.raises(InputError, match="modalities"):
        prune_inputs(model, inputs, keep=0.4, encode=0.5, modalities=("video",))
    nan = inputs["pixel_values"].clone().fill_(torch.nan)
    with pytest.raises(InputError, match="returned NaN"):
        prune_inputs(model, {**inputs, "pixel_values": nan}, keep=0.4, encode=0.5)
    with pytest.raises(InputError, match=r"patches, and image_grid_thw stands for"):
        prune_inputs(model, {**inputs, "pixel_values": nan[:-4]}, keep=0.4, encode=0.5)
    with pytest.raises(InputError, match="image_grid_thw is missing"):
        prune_inputs(model, {**inputs, "image_grid_thw": None}, keep=0.4, encode=0.5)
    for share in (0, 1.5, "most"):
        with pytest.raises(InputError, match=r"^encode="):
            prune_inputs(model, inputs, keep=0.4, encode=share)


@pytest.mark.parametrize("model_type", ["glm4v", "paddleocr_vl", "kimi_k25", "ernie4_5_vl_moe"])
def test_families_whose_towers_need_whole_images(model_type):
    model, family, _ = make(model_type, [(0, 3)])
    with pytest.raises(ModelError, match=f"images of {model_type} models whole: leave encode out"):
        prune_inputs(model, make_batch(model, family, [(1, 3)]), keep=0.4, encode=0.5)


def test_the_plan():
    plan = plan_windows((1, 16, 20), 4, Fraction(1, 2))
    assert plan.coarse == (1, 8, 10)
    assert len(plan.windows) == 20
    assert plan.limit == 80
    assert sorted(torch.cat(plan.windows).tolist()) == list(range(320))
    assert plan.windows[6].tolist() == [r * 20 + c for r in range(4, 8) for c in range(4, 8)]
    assert plan.boxes[6] == (4 / 16, 4 / 20, 8 / 16, 8 / 20)
    assert plan.places[:3].tolist() == [21, 23, 25]
    assert plan.choose([3, 7, 1, 0, 19, 2]) == [0, 1, 3, 7, 19]
    assert plan_windows((1, 16, 20), 4, Fraction(1, 4)).coarse == (1, 5, 7)  # an eighth of the image
    assert plan_windows((1, 16, 20), 4, Fraction(9, 10)).coarse == (1, 8, 10)
    tiny = plan_windows((1, 16, 20), 4, Fraction(1, 1000))
    assert (tiny.coarse, tiny.choose([5, 6])) == ((1, 1, 1), [5])
    for grid in ((1, 4, 3), (1, 1, 1), (2, 4, 4)):
        assert plan_windows(grid, 4, Fraction(1, 2)).windows == ()
        assert plan_windows(grid, 4, Fraction(1, 2)).coarse == grid
    odd = plan_windows((1, 17, 5), 4, Fraction(1, 2))
    assert [len(window) for window in odd.windows] == [16, 4] * 4 + [4, 1]
    assert plan_windows((1, 5, 1), 4, Fraction(99, 100)).windows == ()  # a glance and one window are all of it
    assert plan_windows((1, 6, 1), 4, Fraction(99, 100)).coarse == (1, 1, 1)
    assert plan_windows((1, 2, 3), 2, Fraction(1, 2)).choose([0, 1]) == [1]  # the second one fits
    assert plan_windows((1, 2, 3), 2, Fraction(1, 4)).choose([0, 1]) == [0]  # none does


@pytest.mark.parametrize("share", [Fraction(1, 20), Fraction(1, 4), Fraction(1, 2), Fraction(9, 10)])
def test_the_plan_of_any_size(share):
    for rows in (1, 2, 3, 5, 8, 13, 40, 97):
        for columns in (1, 4, 7, 29, 200):
            plan = plan_windows((1, rows, columns), 4, share)
            assert len(set(plan.places.tolist())) == plan.coarse[1] * plan.coarse[2] == len(plan.places)
            if not plan.windows:
                assert plan.coarse == plan.grid
                continue
            glance, spent = len(plan.places), int(plan.mark(plan.choose(range(len(plan.windows)))).sum())
            assert glance <= max(1, plan.total * min(share / 2, Fraction(1, 4)))
            fits = glance + min(map(len, plan.windows)) <= share * plan.total
            assert glance + spent <= (share * plan.total if fits else glance + len(plan.windows[0])) < plan.total
            assert plan.coarse[1] <= plan.coarse[2] if rows < columns else plan.coarse[1] >= plan.coarse[2]


@pytest.mark.parametrize("coarse", [(1, 2, 3), (1, 3, 5), (1, 1, 1)])
def test_the_smaller_image_is_the_processors_of_box_averaged_pixels(coarse):
    processor = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 10**6}, do_convert_rgb=False
    )
    unit = 8
    pixels = np.random.default_rng(0).integers(0, 256, (6 * unit, 10 * unit, 3), dtype=np.uint8)
    whole = processor(Image.fromarray(pixels), do_resize=False, return_tensors="pt")
    assert whole["image_grid_thw"].tolist() == [[1, 12, 20]]
    small = shrink_patches(whole["pixel_values"], (1, 6, 10), coarse, 2, 4)
    rows, columns = coarse[1] * unit, coarse[2] * unit
    mean = np.zeros((rows, columns, 3))
    for y in range(rows):
        for x in range(columns):
            top, bottom = y * len(pixels) // rows, -(-(y + 1) * len(pixels) // rows)
            left, right = x * pixels.shape[1] // columns, -(-(x + 1) * pixels.shape[1] // columns)
            mean[y, x] = pixels[top:bottom, left:right].mean((0, 1))
    assert small.shape == (coarse[1] * coarse[2] * 4, whole["pixel_values"].shape[1])
    means, deviations = (np.array(getattr(processor, name)) for name in ("image_mean", "image_std"))
    image = torch.from_numpy((mean / 255 - means) / deviations).permute(2, 0, 1).float()
    cells = image.reshape(3, coarse[1], 2, 4, coarse[2], 2, 4).permute(1, 4, 2, 5, 0, 3, 6)
    expected = cells[:, :, :, :, :, None].expand(-1, -1, -1, -1, -1, 2, -1, -1).reshape(len(small), -1)
    assert torch.allclose(small, expected, atol=1e-5)
