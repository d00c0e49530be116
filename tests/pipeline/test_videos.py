"""Videos, several images, and budgets over frames and prompts, through the model."""

import pytest
import torch

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import FoveateError, InputError, KeepError
from foveate.method.budget import to_budget
from foveate.models import lookup

KINDS = ("qwen2_5_vl", "qwen3_vl")  # a video in one piece, and frame by frame with timestamps
NEW = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}


@pytest.fixture(params=KINDS)
def family(request):
    return lookup.family(request.param)


@pytest.fixture
def inputs(model, family):
    return make_batch(model, family, [(("image", "video"), 5), (("video",), 4), (2, 3), (0, 3)])


def frames(report, number):
    """How many tokens of each frame were kept."""
    t, h, w = report.items[number].grid
    return (report.items[number].kept // (h * w)).bincount(minlength=t).tolist()


def test_pictures_and_clips_of_one_prompt_are_pruned_each_by_its_own_share(model, inputs):
    report = foveate.prune_inputs(model, inputs, keep=0.5).report
    assert tuple(item.modality for item in report.items) == ("image", "image", "image", "video", "video")
    assert [len(item.kept) for item in report.items] == [to_budget(0.5, item.total) for item in report.items]
    assert [item.grid[0] for item in report.items] == [1, 1, 1, 2, 3]


def test_words_between_the_frames_stay(model, family, inputs):
    short = foveate.prune_inputs(model, inputs, keep=1, per="image")
    visual = {family.token_id(model.config, modality) for modality in family.traits.modalities}
    for long, mask, cut, left in zip(
        inputs["input_ids"], inputs["attention_mask"], short["input_ids"], short["attention_mask"], strict=True
    ):
        words = [i for i in long[mask.bool()].tolist() if i not in visual]
        assert [i for i in cut[left.bool()].tolist() if i not in visual] == words


def test_a_budget_for_every_frame(model, inputs):
    report = foveate.prune_inputs(model, inputs, keep=2, per="frame").report
    assert frames(report, 3) == [2, 2]
    assert frames(report, 4) == [2, 2, 2]
    assert [len(item.kept) for item in report.items[:3]] == [2, 2, 2]


def test_a_budget_for_the_prompt(model, inputs):
    report = foveate.prune_inputs(model, inputs, keep=9, per="prompt").report
    sizes = [len(item.kept) for item in report.items]
    assert min(sizes) >= 1
    assert [sizes[0] + sizes[3], sizes[4], sizes[1] + sizes[2]] == [9, 9, 9]  # the rows
    with pytest.raises(KeepError, match=r"keep=1 leaves 1 tokens for the 2 .* of row 0"):
        foveate.prune_inputs(model, inputs, keep=1, per="prompt")


@pytest.mark.parametrize("wanted", [("image",), ("video",), ()])
@torch.no_grad()
def test_what_is_not_named_stays_whole(model, inputs, wanted):
    report = foveate.prune_inputs(model, inputs, keep=0.4, modalities=wanted).report
    for modality, kept, total in ((item.modality, item.kept, item.total) for item in report.items):
        assert len(kept) == (to_budget(0.4, total) if modality in wanted else total)
    if not wanted:
        whole = foveate.prune_inputs(model, inputs, keep=0.4, modalities=wanted)
        real = inputs["attention_mask"].bool()
        assert torch.allclose(model(**whole).logits[real], model(**inputs).logits[real], atol=1e-5)


@torch.no_grad()
def test_a_standing_clip_costs_one_frame(model, family, inputs):
    grid = inputs["video_grid_thw"]
    sizes = grid.prod(-1).tolist()
    first = inputs["pixel_values_videos"].split(sizes)
    still = torch.cat([video.unflatten(0, (t, -1))[:1].expand(t, -1, -1).flatten(0, 1)
                       for video, (t, _, _) in zip(first, grid.tolist(), strict=True)])  # fmt: skip
    standing = foveate.prune_inputs(model, {**inputs, "pixel_values_videos": still}, keep=0.9).report
    assert [frames(standing, n) for n in (3, 4)] == [[4, 0], [6, 0, 0]]
    every = foveate.prune_inputs(model, {**inputs, "pixel_values_videos": still}, keep=1.0).report
    assert [len(item.kept) for item in every.items] == [item.total for item in every.items]


@torch.no_grad()
def test_a_handle_prunes_clips_alike(model, inputs):
    settings = {"keep": 0.3, "per": "frame", "modalities": ("video",)}
    short = foveate.prune_inputs(model, inputs, **settings)
    with foveate.pruning(model, **settings) as handle:
        out = model.generate(**inputs, **NEW)
        logits = model(**inputs).logits
    assert same_kept(handle.report, short.report)
    length = inputs["input_ids"].shape[1]
    assert torch.equal(out[:, :length], inputs["input_ids"])
    assert torch.equal(out[:, length:], model.generate(**short, **NEW)[:, -4:])
    assert torch.equal(logits, model(**short).logits)


@torch.no_grad()
def test_clips_are_encoded_once_for_many_choices(model, inputs):
    encoded = foveate.encode(model, inputs)
    words = {name: value for name, value in inputs.items() if not name.startswith("pixel_values")}
    for keep in (0.2, 0.6):
        one = foveate.prune_inputs(model, words, keep=keep, encoded=encoded)
        assert torch.equal(model(**one).logits, model(**foveate.prune_inputs(model, inputs, keep=keep)).logits)
    ready = {**words, "mm_encoder_outputs": dict(encoded.outputs)}
    assert torch.equal(model(**one).logits, model(**foveate.prune_inputs(model, ready, keep=0.6)).logits)


@torch.no_grad()
def test_a_clip_beside_encoded_pictures_is_encoded_and_pruned_too(model, inputs):
    encoded = foveate.encode(model, {name: value for name, value in inputs.items() if "video" not in name})
    short = foveate.prune_inputs(model, inputs, keep=0.4, encoded=encoded)
    whole = foveate.prune_inputs(model, inputs, keep=0.4)
    assert tuple(item.modality for item in short.report.items) == tuple(item.modality for item in whole.report.items)
    assert torch.equal(model(**short).logits, model(**whole).logits)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"per": "picture"}, r'per=.picture. is unknown: use "image", "frame" or "prompt"'),
        ({"modalities": ("image", "sound")}, "give some of 'image', 'video', 'audio'"),
        ({"modalities": "image"}, "in a tuple"),
        ({"modalities": None}, "in a tuple"),
        ({"modalities": [["image"]]}, "in a tuple"),
        ({"modalities": iter(["image"])}, "in a tuple"),  # it can be looked through only once
    ],
)
def test_settings_that_mean_nothing_are_refused(model, inputs, settings, told):
    for call in (foveate.prune_inputs, foveate.attach):
        arguments = (model, inputs) if call is foveate.prune_inputs else (model,)
        with pytest.raises(InputError, match=told):
            call(*arguments, keep=0.5, **settings)
    assert "generate" not in vars(model)


def test_a_clip_without_its_pixels_and_pixels_without_a_place(model, inputs):
    def without(*names):
        return {name: value for name, value in inputs.items() if name not in names}

    with pytest.raises(InputError, match="video placeholders but no video came with it: pass pixel_values_videos"):
        foveate.prune_inputs(model, without("pixel_values_videos", "video_grid_thw"), keep=0.5)
    with pytest.raises(InputError, match="image placeholders but no image came with it: pass pixel_values too"):
        foveate.prune_inputs(model, without("pixel_values", "image_grid_thw"), keep=0.5)
    two = {**inputs, "input_ids": inputs["input_ids"].clone()}
    places = (two["input_ids"][1] == model.config.video_token_id).nonzero()
    two["input_ids"][1, places[-2:]] = 11
    with pytest.raises(
        InputError, match="Video 1 of 2 makes 18 tokens but row 1 has 16 video placeholders left for it"
    ):
        foveate.prune_inputs(model, two, keep=0.5)
    two["input_ids"][2, -1] = model.config.image_token_id
    two["input_ids"][1, places[-2:]] = model.config.video_token_id
    with pytest.raises(InputError, match="Row 2 has 1 image placeholders more than its images make tokens"):
        foveate.prune_inputs(model, two, keep=0.5)


def test_clips_of_a_family_that_has_none_are_refused(llava):
    inputs = make_batch(llava, lookup.family("llava"), [(1, 4)])
    with pytest.raises(InputError, match=r"Videos of 'llava' models are not supported.*as images"):
        foveate.prune_inputs(llava, {**inputs, "pixel_values_videos": torch.ones(1)}, keep=0.5)


def test_clips_have_no_extras():
    model = make_tiny_model(lookup.family("qwen2_5_vl"))
    inputs = make_batch(model, lookup.family("qwen2_5_vl"), [(("video",), 4)])
    with pytest.raises(FoveateError, match="needs the attention"):
        foveate.prune_inputs(model, inputs, keep=0.5, method="visionzip")


def test_a_method_inside_the_decoder_prunes_pictures_alone(model):
    for wanted, told in ((("video",), "not for fastv, which prunes images"), ("image", "in a tuple")):
        with pytest.raises(InputError, match=told):
            foveate.attach(model, keep=0.5, method=foveate.FastV(layer=1), modalities=wanted)


def test_frames_that_cannot_be_told_apart_have_no_budget_of_their_own():
    family = lookup.family("llava_onevision")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(("video",), 4)])
    with pytest.raises(InputError, match=r"frames of this model's videos cannot be told apart: use per=\"image\""):
        foveate.prune_inputs(model, inputs, keep=2, per="frame")


@pytest.mark.parametrize("model_type", ["qwen2_5_omni_thinker", "qwen3_omni_moe_thinker"])
@torch.no_grad()
def test_sounds_are_pruned_where_they_are_named(model_type):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(("image", "audio", "video"), 5), (("audio",), 4)])
    everything = ("image", "video", "audio")
    short = foveate.prune_inputs(model, inputs, keep=0.4, modalities=everything)
    assert tuple(item.modality for item in short.report.items) == ("image", "video", "audio", "audio")
    assert [len(item.kept) for item in short.report.items] == [
        to_budget(0.4, item.total) for item in short.report.items
    ]
    assert "input_ids" not in short  # generate returns new tokens alone
    assert short["inputs_embeds"].shape[:2] == short["attention_mask"].shape
    with foveate.pruning(model, keep=0.4, modalities=everything):
        out = model.generate(**inputs, **NEW)
    length = inputs["input_ids"].shape[1]
    assert torch.equal(out[:, :length], inputs["input_ids"])
    assert torch.equal(out[:, length:], model.generate(**short, **NEW))

    default = foveate.prune_inputs(model, inputs, keep=0.4)
    assert tuple(item.modality for item in default.report.items) == ("image", "video")
    assert torch.equal(default["input_features"], inputs["input_features"])
    count = family.placeholders(model.config, inputs, "audio").sum()
    assert family.placeholders(model.config, default, "audio").sum() == count


def same_kept(one, other):
    pairs = zip(one.items, other.items, strict=True)
    return all(torch.equal(a.kept, b.kept) for a, b in pairs)
