"""Positions after a video: a warning where transformers numbers text inside the video's times."""

import warnings

import pytest
import torch

import foveate
from foveate.conformance.batches import make_tiny_model
from foveate.errors import FoveateWarning
from foveate.models import lookup, video_times
from foveate.models.patches import Patches, Timestamped

INSIDE = ("ernie4_5_vl_moe", "qwen2_5_vl", "qwen2_vl")
"""Where text after a long video starts inside it, from transformers 5.3 on. 5.2 and vLLM 0.32: behind it."""
FRAMES, ROWS, COLUMNS = 12, 2, 3
EXTRA = {"ernie4_5_vl_moe": (FRAMES // 2, COLUMNS), "hy_v4_vl": (FRAMES, COLUMNS + 1)}  # frames, columns in the prompt


def make_inputs(family, model, frames, padding):
    """Padding, words, a video, words."""
    config = model.config
    merge, token = getattr(config.vision_config, "spatial_merge_size", 1), family.token_id(config, "video")
    shown, columns = EXTRA.get(family.model_type, (FRAMES, COLUMNS))
    shown = shown * frames // FRAMES
    apart = isinstance(family, Timestamped)
    video = ([7, 7] + [token] * ROWS * columns) * shown if apart else [token] * shown * ROWS * columns
    ids = torch.tensor([[0] * padding + [5, 6, *video, 8, 9, 10]])
    mask = (torch.arange(ids.shape[1]) >= padding).long()[None]
    grid = torch.tensor([[frames, ROWS * merge, COLUMNS * merge]])
    return {
        "input_ids": ids, "attention_mask": mask, "video_grid_thw": grid, "second_per_grid_ts": torch.ones(1),
        "video_second_per_grid": torch.ones(1),
    }  # fmt: skip


def patch_families():
    families = map(lookup.family, lookup.available())
    return [each.model_type for each in families if isinstance(each, Patches) and "video" in each.traits.modalities]


def has_axes(model):
    return hasattr(model.base_model, "get_rope_index")


@pytest.fixture(autouse=True)
def fresh():
    video_times._warn.cache_clear()
    yield
    video_times._warn.cache_clear()


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("name", INSIDE)
def test_text_inside_a_video_is_warned_of_once(name, padding):
    """When this fails because nothing is warned of, transformers numbers as the checkpoints were trained again."""
    family = lookup.family(name)
    model = make_tiny_model(family)
    inputs = make_inputs(family, model, FRAMES, padding)
    with pytest.warns(FoveateWarning, match=rf"numbers the text after a video of {name} inside the video's times"):
        positions = family.positions(model, inputs, inputs["attention_mask"])
    stock, _ = model.base_model.get_rope_index(
        **{key: value for key, value in inputs.items() if key not in ("video_second_per_grid", "second_per_grid_ts")},
        **({"second_per_grid_ts": inputs["second_per_grid_ts"]} if name == "qwen2_5_vl" else {}),
        mm_token_type_ids=family.token_types(model.config, inputs),
    )
    assert torch.equal(positions[1:], stock)  # the library follows stock, and says so
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        family.positions(model, inputs, inputs["attention_mask"])  # once


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("name", INSIDE)
def test_a_short_video_is_not_warned_of(name, padding):
    family = lookup.family(name)
    model = make_tiny_model(family)
    inputs = make_inputs(family, model, 2 if name == "ernie4_5_vl_moe" else 1, padding)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        family.positions(model, inputs, inputs["attention_mask"])


@pytest.mark.parametrize("name", [name for name in patch_families() if name not in (*INSIDE, "minicpmv4_7")])
def test_other_families_number_text_behind_a_video(name):
    family = lookup.family(name)
    model = make_tiny_model(family)
    if not has_axes(model):
        assert family.positions(model, {}, torch.ones(1, 9)).tolist() == [list(range(9))]
        return
    inputs = make_inputs(family, model, FRAMES, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FoveateWarning)
        positions = family.positions(model, inputs, inputs["attention_mask"])[1:, 0]
    assert positions[:, -3].min() > positions[:, 2:-3].max()


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl"])
def test_pruning_a_long_video_warns(name):
    family = lookup.family(name)
    model = make_tiny_model(family)
    inputs = make_inputs(family, model, FRAMES, 0)
    vision = model.config.vision_config
    width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    inputs["pixel_values_videos"] = torch.randn(int(inputs["video_grid_thw"].prod()), width)
    with torch.no_grad(), pytest.warns(FoveateWarning, match=r"behind its last frame as these models were trained"):
        foveate.prune_inputs(model, {k: v for k, v in inputs.items() if k != "video_second_per_grid"}, keep=4)
    own_ids = torch.arange(inputs["input_ids"].shape[1])[None, None].expand(4, 1, -1)
    video_times._warn.cache_clear()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")  # positions of the caller's own are not looked at
        own = {k: v for k, v in inputs.items() if k != "video_second_per_grid"}
        foveate.prune_inputs(model, {**own, "position_ids": own_ids}, keep=4)
