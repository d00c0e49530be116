"""Qwen's grids inside vLLM, with its own numbering of positions and no engine."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from foveate.conformance.registry import to_tiny_family
from foveate.integrations.vllm.settings import PLAN_FIELDS, ImagePlan
from foveate.models.lookup import family

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange

from foveate.integrations.vllm import qwen
from foveate.integrations.vllm.prompt import restore_tokens

PROCESSORS = [qwen.PrunedQwen2VLProcessor, qwen.PrunedQwen25VLProcessor, qwen.PrunedQwen3VLProcessor]
pytestmark = pytest.mark.filterwarnings("error:torch.meshgrid")  # it asks for the order of the axes
GRIDS = [(1, 4, 6), (1, 2, 2), (1, 8, 4), (1, 2, 10)]  # in patches; two by two become a token


def make(kind):
    """A model without weights: what numbers positions needs only the configuration."""
    made = object.__new__(kind)
    torch.nn.Module.__init__(made)
    made.config = to_tiny_family(family("qwen2_5_vl")).make_config()
    assert made.config.vision_config.spatial_merge_size == 2
    return made


def feature(offset, length, grid, plan=None, modality="image", **more):
    data = {f"{modality}_grid_thw": torch.tensor(grid), **more}
    if plan is not None:
        data[PLAN_FIELDS[modality]] = plan.pack()
    data = {name: SimpleNamespace(data=value) for name, value in data.items()}
    span = PlaceholderRange(offset=offset, length=length)
    return MultiModalFeatureSpec(data=data, modality=modality, identifier=str(offset), mm_position=span)


@pytest.mark.parametrize("kind", [qwen.PrunedQwen2VL, qwen.PrunedQwen25VL])
@pytest.mark.parametrize("kept", [[[0, 5], [0], [1, 2, 7], [4]], [[3], [0], [0, 1, 2, 3, 4, 5, 6, 7], [0, 2]]])
def test_kept_tokens_have_the_positions_of_the_whole_grid(kind, kept):
    pruned = make(kind)
    short, whole, features, unpruned, places, offsets = [1, 2], [1, 2], [], [], [0, 1], [torch.zeros(3, 2)]
    for grid, own in zip(GRIDS, kept, strict=True):
        total = grid[1] * grid[2] // 4
        features.append(feature(len(short), len(own), grid, ImagePlan(len(own), total, "divprune", "original", ())))
        unpruned.append(feature(len(whole), total, grid))
        places += [len(whole) + n for n in own] + [len(whole) + total]
        short, whole = short + [9] * len(own) + [3], whole + [9] * total + [3]
        merged = (grid[0], grid[1] // 2, grid[2] // 2)
        cut = pruned.make_offsets(total, merged)[:, own]
        offsets += [torch.zeros(3, total) if len(own) == total else cut, torch.zeros(3, 1)]
    stock, stock_delta = super(qwen.PrunedMRopeModel, pruned).get_mrope_input_positions(whole, unpruned)
    positions, delta = pruned.get_mrope_input_positions(short, features)
    assert torch.equal(positions + torch.cat(offsets, 1).long(), stock[:, places])
    assert len(short) + delta == len(whole) + stock_delta


CLIPS, CLIP_INPUTS = [(3, 4, 6), (1, 2, 2), (2, 8, 4)], ("pixel_values_videos", "video_grid_thw")


def make_words(total, frames, config):
    """A timestamp of two tokens and a mark in front of each frame, and a mark behind it."""
    marks, words, place = (config.vision_start_token_id, config.vision_end_token_id), [], 0
    for frame in range(frames):
        words += [(place, 30 + frame), (place + 1, 31), (place + 2, marks[0])]
        place += 3 + total // frames
        words.append((place, marks[1]))
        place += 1
    return tuple(words)


@pytest.mark.parametrize("seconds", [1.0, 0.5, 1.7])
@pytest.mark.parametrize("kind", [qwen.PrunedQwen2VL, qwen.PrunedQwen25VL, qwen.PrunedQwen3VL])
def test_what_is_kept_of_clips_has_the_positions_of_the_whole_clips(kind, seconds):
    """As the stock model numbers a prompt in which no token was dropped; the text behind them too."""
    pruned = make(kind)
    pruned._family = family("qwen2_5_vl")
    draw, visual = random.Random(3), pruned.config.video_token_id
    pace = {} if kind is qwen.PrunedQwen3VL else {"second_per_grid_ts": torch.tensor(seconds)}
    short, whole, features, unpruned, places, offsets = [1, 2], [1, 2], [], [], [0, 1], [torch.zeros(3, 2)]
    for grid in CLIPS:
        total = grid[0] * grid[1] * grid[2] // 4
        words = make_words(total, grid[0], pruned.config) if kind is qwen.PrunedQwen3VL else ()
        total += len(words)
        plan = ImagePlan(len(words) + 1, total, "divprune", "original", (), words=words)
        kept = sorted([*(place for place, _ in words), draw.choice(plan.visual)])
        tokens = restore_tokens([visual] * total, plan)
        features.append(feature(len(short), plan.kept, grid, plan if plan.kept < total else None, "video", **pace))
        unpruned.append(feature(len(whole), total, grid, None, "video", **pace))
        places += [len(whole) + place for place in kept] + [len(whole) + total]
        fields = {"video_grid_thw": torch.tensor([grid]), **{name: value[None] for name, value in pace.items()}}
        moved = pruned.make_clip_offsets(plan, fields, 0)[:, kept]
        offsets += [torch.zeros(3, total) if plan.kept == total else moved, torch.zeros(3, 1)]
        dropped = set(plan.visual[1:])
        short += [token for place, token in enumerate(tokens) if place not in dropped] + [3]
        whole += [*tokens, 3]
    stock, stock_delta = super(qwen.PrunedMRopeModel, pruned).get_mrope_input_positions(whole, unpruned)
    positions, delta = pruned.get_mrope_input_positions(short, features)
    assert torch.equal(positions + torch.cat(offsets, 1).long(), stock[:, places])
    assert len(short) + delta == len(whole) + stock_delta


def test_offsets_are_the_cells_of_the_grid_row_by_row():
    pruned = make(qwen.PrunedQwen25VL)
    for t, rows, columns in ((1, 3, 4), (2, 2, 3), (1, 1, 1)):
        cells = [[frame, row, column] for frame in range(t) for row in range(rows) for column in range(columns)]
        assert pruned.make_offsets(len(cells), (t, rows, columns)).T.tolist() == cells


@pytest.mark.parametrize(("grids", "names"), [(GRIDS, ("pixel_values", "image_grid_thw")), (CLIPS, CLIP_INPUTS)])
def test_the_encoders_inputs_are_cut_between_images(grids, names):
    pruned = make(qwen.PrunedQwen25VL)
    sizes = [t * rows * columns for t, rows, columns in grids]
    patches = torch.arange(sum(sizes) * 3).view(-1, 3)
    inputs = dict(zip(names, (patches, torch.tensor(grids)), strict=True))
    for start in range(len(grids)):
        for stop in range(start + 1, len(grids) + 1):
            cut = pruned.slice_inputs(inputs, start, stop)
            assert set(cut) == set(inputs)
            assert torch.equal(cut[names[1]], torch.tensor(grids[start:stop]))
            assert torch.equal(cut[names[0]], torch.cat(patches.split(sizes)[start:stop]))


@pytest.mark.parametrize("kind", PROCESSORS)
@pytest.mark.parametrize("merge", [1, 2])
def test_an_image_has_a_token_for_every_merged_cell(kind, merge):
    processor = object.__new__(kind)
    config = SimpleNamespace(vision_config=SimpleNamespace(spatial_merge_size=merge))
    processor.info = SimpleNamespace(get_hf_config=lambda: config)
    counts = processor.count_tokens(None, {"image_grid_thw": torch.tensor(GRIDS)})
    assert counts == [(t * rows * columns // merge**2, 0) for t, rows, columns in GRIDS]
    assert all(isinstance(total, int) for total, _ in counts)
    clips = processor.count_clip_tokens(None, {"video_grid_thw": torch.tensor(CLIPS)})
    assert clips == [(t * rows * columns // merge**2, 0) for t, rows, columns in CLIPS]
