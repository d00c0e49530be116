"""Parts of images that repeat a neighbour are not encoded: which, that the rest is exact, and what is refused."""

import pytest
import torch

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model, take_row
from foveate.conformance.reference import logits_at, relative_error, run_reference
from foveate.errors import FoveateError, InputError, ModelError
from foveate.method.blanks import BLANK
from foveate.method.fastv import FastV
from foveate.models import encoder_memory, lookup
from foveate.models.patch_encoder import PatchEncoder
from foveate.models.qwen_vl import Qwen25VL
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.settings import check_settings
from foveate.pipeline.skip import check_skip
from tests.models.test_patch_encoder import run_masked
from tests.policies import make_policy

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*generation_config.*:Warning"),
    pytest.mark.filterwarnings("ignore:.*numbers the text after a video.*:foveate.FoveateWarning"),
]
FAMILIES = [name for name in lookup.available() if isinstance(lookup.family(name), PatchEncoder)]
ROWS = [(("image", "video", "image"), 3), (("video", "image"), 2), (0, 4)]
NAMES = {"image": "pixel_values", "video": "pixel_values_videos"}


def make(model_type, rows=ROWS, seed=0):
    """A tiny model, and images and videos of a few kinds of parts, two of them blank and many beside their like."""
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, rows)
    rng = torch.Generator().manual_seed(seed)
    for modality, name in NAMES.items():
        if name in inputs:
            patches = inputs[name]
            units = patches.reshape(len(patches) // 4, 4, 3, -1)
            units[:2] = torch.randn(2, 1, 3, 1, generator=rng)
            kinds = torch.randint(0, 3, (len(units),), generator=rng)
            inputs[name] = units[kinds].reshape(patches.shape).contiguous()
            assert bool((inputs[f"{modality}_grid_thw"][:, 1:] > 2).any())
    return model, family, inputs


def find_distinct(inputs, modality):
    """For every item the parts that are neither as they were a frame before nor blank as what is above or left."""
    patches, grids = inputs[NAMES[modality]], inputs[f"{modality}_grid_thw"]
    masks = []
    for own, (t, h, w) in zip(patches.split(grids.prod(-1).tolist()), grids.tolist(), strict=True):
        cells = own.reshape(t, h // 2, w // 2, 4, 3, -1)
        blank = (cells == cells[..., :1, :, :1]).flatten(3).all(-1)
        repeats = torch.zeros(t, h // 2, w // 2, dtype=torch.bool)
        for axis, counts in ((0, torch.ones_like(blank)), (1, blank), (2, blank)):
            size = cells.shape[axis] - 1
            same = (cells.narrow(axis, 1, size) == cells.narrow(axis, 0, size)).flatten(3).all(-1)
            repeats.narrow(axis, 1, size).logical_or_(same & counts.narrow(axis, 1, size))
        masks.append(~repeats.flatten())
    return masks


def replace_features(monkeypatch, model, outputs):
    """Let the stock model read these outputs of its encoders, without NaN."""
    for modality, output in outputs.items():
        output.pooler_output = [tokens.nan_to_num() for tokens in output.pooler_output]
        monkeypatch.setattr(model.base_model, f"get_{modality}_features", lambda *_, output=output, **__: output)


def count_patches(model, family, call):
    """How many patches go through the tower while `call` runs, call by call."""
    counts = []
    handle = family.vision_tower(model).patch_embed.register_forward_pre_hook(
        lambda _, args: counts.append(len(args[0]))
    )
    try:
        return counts, call()
    finally:
        handle.remove()


def test_which_families():
    assert {"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "qwen2_5_omni_thinker"} <= set(FAMILIES)


@pytest.mark.parametrize("model_type", FAMILIES)
@torch.no_grad()
def test_the_law(model_type, monkeypatch):
    """= the stock tower that sees the distinct parts alone, then the full model with all other tokens masked."""
    model, family, inputs = make(model_type)
    chosen = {modality: find_distinct(inputs, modality) for modality in NAMES}
    short = prune_inputs(model, inputs, keep=0.5, skip=0)
    logits = logits_at(model(**short).logits, short["attention_mask"].bool())
    marks = [~own for masks in chosen.values() for own in masks]
    for item, absent in zip(short.report.items, marks, strict=True):
        assert not absent.any() if item.absent is None else torch.equal(item.absent, absent)
        assert item.encoded_share == int((~absent).sum()) / len(absent)
        assert not absent[item.kept].any()
    assert sum(int(absent.sum()) for absent in marks) > 5
    whole = prune_inputs(model, inputs, keep=0.5)
    outputs = {modality: run_masked(model, family, inputs, modality, own) for modality, own in chosen.items()}
    replace_features(monkeypatch, model, outputs)
    assert relative_error(logits, run_reference(model, family, inputs, short)) < 1e-5
    assert any(not torch.equal(a.kept, b.kept) for a, b in zip(short.report.items, whole.report.items, strict=True))


@pytest.mark.parametrize("settings", [
    {"keep": 1.0}, {"keep": 3}, {"keep": 0.4, "per": "prompt"}, {"keep": 0.5, "per": "frame"},
    {"keep": 0.5, "method": "glance"}, {"keep": 0.4, "method": "divprune"}, {"keep": 0.4, "explain": True},
    {"keep": 0.4, "positions": "compact"}, {"keep": 0.4, "modalities": ("video",)},
])  # fmt: skip
@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_vl"])
@torch.no_grad()
def test_the_law_in_other_settings(model_type, settings, monkeypatch):
    model, family, inputs = make(model_type)
    short = prune_inputs(model, inputs, skip="blank", **settings)
    logits = logits_at(model(**short).logits, short["attention_mask"].bool())
    modalities = settings.get("modalities", ("image", "video"))
    chosen = {modality: find_distinct(inputs, modality) for modality in modalities}
    for item in short.report.items:
        assert (item.absent is None) or item.modality in modalities
        absent = 0 if item.absent is None else int(item.absent.sum())
        assert settings["keep"] != 1.0 or len(item.kept) == item.total - absent
    if settings.get("positions") != "compact":
        outputs = {modality: run_masked(model, family, inputs, modality, own) for modality, own in chosen.items()}
        replace_features(monkeypatch, model, outputs)
        assert relative_error(logits, run_reference(model, family, inputs, short)) < 1e-5


@pytest.mark.parametrize("method", ["foveate", "glance"])
@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen2_vl", "qwen3_5", "qwen3_vl"])
@torch.no_grad()
def test_a_row_of_a_batch_gives_what_it_gives_alone(model_type, method):
    rows = [(2, 5), (1, 11), (1, 2)]
    model, family, inputs = make(model_type, rows)
    short = prune_inputs(model, inputs, keep=0.4, skip=0, method=method)
    together, first = model(**short).logits, 0
    for row, (count, _) in enumerate(rows):
        own = take_row(model, family, inputs, row, range(first, first + count))
        alone = prune_inputs(model, own, keep=0.4, skip=0, method=method)
        first += count
        here = together[row][short["attention_mask"][row].bool()]
        assert relative_error(here, model(**alone).logits[0]) < 1e-5


@pytest.mark.parametrize("model_type", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
@torch.no_grad()
def test_only_distinct_parts_go_through_the_tower(model_type):
    model, family, inputs = make(model_type)
    counts, short = count_patches(model, family, lambda: prune_inputs(model, inputs, keep=0.5, skip=0))
    assert counts == [4 * sum(int(own.sum()) for own in find_distinct(inputs, modality)) for modality in NAMES]
    counts, _ = count_patches(model, family, lambda: prune_inputs(model, inputs, keep=0.5))
    assert counts == [len(inputs[name]) for name in NAMES.values()]
    total = sum(len(own) for modality in NAMES for own in find_distinct(inputs, modality))
    absent = sum(int(item.absent.sum()) for item in short.report.items if item.absent is not None)
    assert f"Of {total} parts of the images {absent} were not encoded" in short.report.notes[0]


@pytest.mark.parametrize("modalities", [("image", "video"), ("image",)])
@torch.no_grad()
def test_with_a_bound_for_the_memory_it_goes_in_groups(modalities):
    model, family, inputs = make("qwen2_5_vl")
    counts, free = count_patches(model, family, lambda: prune_inputs(model, inputs, keep=0.5, skip=0))
    tower = family.vision_tower(model)
    bound = next(size for size in range(1000, 10**7, 1000) if encoder_memory.count_patches(tower, size) >= 36)
    settings = {"keep": 0.5, "skip": 0, "modalities": modalities}
    bounded, split = count_patches(
        model, family, lambda: prune_inputs(model, inputs, max_encoder_memory=bound, **settings)
    )
    assert len(bounded) > len(counts)
    assert max(bounded) <= 36 < max(counts)
    assert ("video" in modalities) == (sum(bounded) == sum(counts))
    plain = free if "video" in modalities else prune_inputs(model, inputs, **settings)
    assert relative_error(model(**split).logits, model(**plain).logits) < 1e-5
    for one, other in zip(split.report.items, plain.report.items, strict=True):
        assert torch.equal(one.kept, other.kept)
    with pytest.raises(InputError, match="max_encoder_memory is enough for"):
        prune_inputs(model, inputs, max_encoder_memory=bound // 3, **settings)


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_vl"])
@torch.no_grad()
def test_without_repeats_it_is_stock_bit_for_bit(model_type):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, ROWS)
    short, plain = (prune_inputs(model, inputs, keep=0.5, **more) for more in ({"skip": "blank"}, {}))
    assert short.report.notes[0].startswith("All parts of the images were encoded")
    assert torch.equal(model(**short).logits, model(**plain).logits)
    assert all(item.absent is None and item.encoded_share == 1 for item in short.report.items)


@torch.no_grad()
def test_the_threshold_is_a_share_of_the_range():
    model, _, inputs = make("qwen2_vl", [(1, 3)])
    patches = torch.zeros_like(inputs["pixel_values"])
    patches[4:8] = 0.03
    patches[-1, 0] = 1.0
    last = len(patches) // 4 - 1
    for skip, second in ((0, True), (0.029, True), (0.031, False), (0.999, False), ("blank", BLANK < 0.03)):
        kept = prune_inputs(model, {**inputs, "pixel_values": patches}, keep=1.0, skip=skip).report.items[0].kept
        assert (0 in kept, 1 in kept, last in kept) == (True, second, True)
        assert len(kept) <= 4
    blank = {**inputs, "pixel_values": torch.ones_like(patches)}
    assert prune_inputs(model, blank, keep=0.1, skip=0).report.items[0].kept.tolist() == [0]


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_5", "qwen3_vl"])
@torch.no_grad()
def test_a_still_video_costs_one_frame(model_type, monkeypatch):
    model, family, inputs = make(model_type, [(("video",), 3)])
    t, h, w = inputs["video_grid_thw"][0].tolist()
    frame = torch.randn(h * w, inputs["pixel_values_videos"].shape[1])
    still = {**inputs, "pixel_values_videos": frame.repeat(t, 1)}
    assert t > 1
    counts, short = count_patches(model, family, lambda: prune_inputs(model, still, keep=1.0, skip=0))
    assert counts == [h * w]
    assert short.report.items[0].kept.tolist() == list(range(h * w // 4))
    assert prune_inputs(model, still, keep=0.5, skip=0).report.items[0].encoded_share == 1 / t
    moved = still["pixel_values_videos"].clone()
    moved[h * w + 4] += 0.1
    counts, _ = count_patches(
        model, family, lambda: prune_inputs(model, {**still, "pixel_values_videos": moved}, keep=1.0, skip=0)
    )
    assert counts == [h * w + 4 + (4 if t > 2 else 0)]  # what moved, and what was there before
    logits = logits_at(model(**short).logits, short["attention_mask"].bool())
    outputs = {"video": run_masked(model, family, still, "video", find_distinct(still, "video"))}
    replace_features(monkeypatch, model, outputs)
    assert relative_error(logits, run_reference(model, family, still, short)) < 1e-5


def test_gradients_reach_the_tower_through_distinct_parts_alone():
    model, family, inputs = make("qwen2_5_vl", [(1, 5), (1, 3)])
    pixels = inputs["pixel_values"].requires_grad_()
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[:, -2:] = inputs["input_ids"][:, -2:]
    model(**prune_inputs(model, {**inputs, "labels": labels}, keep=1.0, skip=0)).loss.backward()
    distinct = torch.cat(find_distinct(inputs, "image")).repeat_interleave(4)
    assert torch.equal(pixels.grad.any(-1), distinct)
    assert bool(family.vision_tower(model).patch_embed.proj.weight.grad.isfinite().all())


@torch.no_grad()
def test_generate_under_pruning():
    model, _, inputs = make("qwen2_5_vl", [(2, 3), (1, 5)])
    with foveate.pruning(model, keep=0.5, skip=0) as handle:
        out = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    short = prune_inputs(model, inputs, keep=0.5, skip=0)
    assert [item.encoded_share for item in handle.report.items] == [i.encoded_share for i in short.report.items]
    assert any(item.encoded_share < 1 for item in short.report.items)
    assert torch.equal(out[:, -3:], model.generate(**short, max_new_tokens=3, do_sample=False)[:, -3:])
    with foveate.pruning(model, keep=1.0, skip=0) as handle:
        model.generate(**inputs, max_new_tokens=1)
    assert any(item.encoded_share < 1 for item in handle.report.items)


@torch.no_grad()
def test_a_prompt_without_images():
    model, _, inputs = make("qwen2_5_vl", [(0, 4)])
    assert not prune_inputs(model, inputs, keep=0.4, skip=0).report.items


@pytest.mark.parametrize("skip", [-0.1, 1, 1.0, 7, float("nan"), float("inf"), "blanks", "", True, False, [0.1], 1j])
def test_thresholds_that_are_none(skip):
    model, _, inputs = make("qwen2_vl", [(1, 3)])
    words = r'^skip=.* is no threshold: use "blank", or a float in \[0, 1\)'
    for call in (prune_inputs, lambda model, _, **more: foveate.attach(model, **more)):
        with pytest.raises(InputError, match=words):
            call(model, inputs, keep=0.4, skip=skip)
    with pytest.raises(InputError, match=words):
        foveate.attach(make_tiny_model(lookup.family("llava")), keep=0.4, skip=skip, method="fastv")


@pytest.mark.parametrize("model_type", ["llava", "paligemma", "internvl", "llava_next", "mllama", "fuyu", "gemma3"])
def test_families_that_encode_images_whole(model_type):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    words = f"^skip leaves out patches before the encoder, and that of {model_type} models takes whole images"
    with pytest.raises(ModelError, match=words):
        prune_inputs(model, make_batch(model, family, [(1, 4)]), keep=0.4, skip="blank")
    with pytest.raises(ModelError, match=words):
        foveate.attach(model, keep=0.4, skip=0)


class ReadsTower(Qwen25VL):
    """An adapter of another package that says what its tower attends to."""

    def extras(self, config):
        return frozenset({"cls_attention", "encoder", "keys"})


@pytest.mark.parametrize("method", [row.name for row in foveate.methods() if "cls_attention" in row.needs])
def test_methods_that_read_the_tower_of_the_whole_image(method):
    family = ReadsTower("qwen2_5_vl")
    with pytest.raises(ModelError, match=f"^{method} reads .* of the whole image, of which skip leaves parts out"):
        check_skip(family, check_settings(0.4, method, skip=0))
    check_skip(family, check_settings(0.4, method))


def test_settings_that_do_not_go_together():
    model, _, inputs = make("qwen2_5_vl", [(1, 4)])
    for keep in (make_policy(model), "auto"):
        words = r"^skip='blank' is not for a policy.*leave skip out, or give keep a number"
        with pytest.raises(InputError, match=words):
            prune_inputs(model, inputs, keep=keep, skip="blank")
        with pytest.raises(InputError, match=words):
            foveate.attach(model, keep=keep, skip="blank")
    with pytest.raises(InputError, match=r"^skip and encode each choose what is encoded: leave one of them out\.$"):
        prune_inputs(model, inputs, keep=0.4, skip="blank", encode=0.5)
    with pytest.raises(InputError, match="modalities"):
        prune_inputs(model, inputs, keep=0.4, skip=0, modalities=("audio",))
    with pytest.raises(InputError, match=r"^skip='blank' is not for fastv, which sees the whole image: leave it out"):
        foveate.attach(model, keep=0.4, skip="blank", method="fastv")
    foveate.attach(model, keep=0.4, skip=None, method=FastV(layer=1)).remove()


def test_inputs_of_which_nothing_can_be_left_out():
    model, family, inputs = make("qwen2_5_vl", [(1, 4)])
    encoded = foveate.encode(model, inputs)
    ready = {**inputs, "pixel_values": None, "mm_encoder_outputs": {"image": family.encode(model, inputs)}}
    for one, more in ((inputs, {"encoded": encoded}), (ready, {})):
        with pytest.raises(InputError, match="The images came encoded, so nothing can be left out"):
            prune_inputs(model, one, keep=0.4, skip=0, **more)
    for wrong in (torch.nan, torch.inf):
        pixels = inputs["pixel_values"].clone()
        pixels[-1, -1] = wrong
        with pytest.raises(InputError, match="NaN"):
            prune_inputs(model, {**inputs, "pixel_values": pixels}, keep=0.4, skip=0)
    with pytest.raises(InputError, match=r"patches and image_grid_thw stands for"):
        prune_inputs(model, {**inputs, "pixel_values": inputs["pixel_values"][:-4]}, keep=0.4, skip=0)
    with pytest.raises(FoveateError, match="image_grid_thw"):
        prune_inputs(model, {k: v for k, v in inputs.items() if k != "image_grid_thw"}, keep=0.4, skip=0)


def test_a_prompt_that_ends_in_an_image():
    model, family, inputs = make("qwen2_5_vl", [(1, 4)])
    end = int(family.placeholders(model.config, inputs)[0].nonzero()[-1]) + 1
    cut = {n: v[:, :end] for n, v in inputs.items() if v.shape[:2] == inputs["input_ids"].shape}
    flat = {**inputs, **cut, "pixel_values": torch.ones_like(inputs["pixel_values"])}
    with pytest.raises(InputError, match="end it in words"):
        prune_inputs(model, flat, keep=0.4, skip=0)
