"""Qwen's grids inside vLLM, with its own numbering of positions and no engine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from foveate.conformance.registry import to_tiny_family
from foveate.integrations.vllm.settings import ImagePlan
from foveate.models.lookup import family

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange

from foveate.integrations.vllm import qwen

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


def feature(offset, length, grid, plan=None):
    data = {"image_grid_thw": SimpleNamespace(data=torch.tensor(grid))}
    if plan is not None:
        data["foveate"] = SimpleNamespace(data=plan.pack())
    span = PlaceholderRange(offset=offset, length=length)
    return MultiModalFeatureSpec(data=data, modality="image", identifier=str(offset), mm_position=span)


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
        offsets += [pruned.make_offsets(total, merged)[:, own], torch.zeros(3, 1)]
    stock, stock_delta = super(qwen.PrunedMRopeModel, pruned).get_mrope_input_positions(whole, unpruned)
    positions, delta = pruned.get_mrope_input_positions(short, features)
    assert torch.equal(positions + torch.cat(offsets, 1).long(), stock[:, places])
    assert len(short) + delta == len(whole) + stock_delta


def test_offsets_are_the_cells_of_the_grid_row_by_row():
    pruned = make(qwen.PrunedQwen25VL)
    for t, rows, columns in ((1, 3, 4), (2, 2, 3), (1, 1, 1)):
        cells = [[frame, row, column] for frame in range(t) for row in range(rows) for column in range(columns)]
        assert pruned.make_offsets(len(cells), (t, rows, columns)).T.tolist() == cells


def test_the_encoders_inputs_are_cut_between_images():
    pruned = make(qwen.PrunedQwen25VL)
    sizes = [t * rows * columns for t, rows, columns in GRIDS]
    patches = torch.arange(sum(sizes) * 3).view(-1, 3)
    inputs = {"pixel_values": patches, "image_grid_thw": torch.tensor(GRIDS)}
    for start in range(len(GRIDS)):
        for stop in range(start + 1, len(GRIDS) + 1):
            cut = pruned.slice_inputs(inputs, start, stop)
            assert set(cut) == set(inputs)
            assert torch.equal(cut["image_grid_thw"], torch.tensor(GRIDS[start:stop]))
            assert torch.equal(cut["pixel_values"], torch.cat(patches.split(sizes)[start:stop]))


@pytest.mark.parametrize("kind", PROCESSORS)
@pytest.mark.parametrize("merge", [1, 2])
def test_an_image_has_a_token_for_every_merged_cell(kind, merge):
    processor = object.__new__(kind)
    config = SimpleNamespace(vision_config=SimpleNamespace(spatial_merge_size=merge))
    processor.info = SimpleNamespace(get_hf_config=lambda: config)
    counts = processor.count_tokens(None, {"image_grid_thw": torch.tensor(GRIDS)})
    assert counts == [(t * rows * columns // merge**2, 0) for t, rows, columns in GRIDS]
    assert all(isinstance(total, int) for total, _ in counts)
