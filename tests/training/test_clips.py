"""Training on clips and screens: what the model gets is what it gets later, and only the adapter learns."""

import json
import random
from dataclasses import replace

import pytest
import torch

from foveate.runtime import load as loading
from foveate.runtime.load import BUNDLED, load
from training.build import QWEN
from training.clips import STAGE, ClipDataset, train
from training.data import pack
from training.language import LanguageTraining


@pytest.fixture(scope="module")
def loaded():
    return load("bundled-clips")


@torch.no_grad()
@pytest.mark.parametrize("kind", ["clip", "screens", "image"])
def test_packed_questions_are_single_question_prompts(loaded, kind):
    """Positions are those that the stock model computes, and so are the logits, through its video path for a clip."""
    model, tokenizer = loaded.model, loaded.processor.tokenizer
    data = ClipDataset(replace(STAGE, questions=2, drills=1), tokenizer, 0)
    row = getattr(data, f"_make_{kind}")(7, random.Random(3))
    packed = pack([row.head], [row.questions], QWEN, tokenizer)
    net = LanguageTraining(load("bundled-clips").model, tokenizer, 0.0, 0.0)
    batch = packed | {"pixel_values": row.pixels, "image_grid_thw": row.grid}
    together = net.model.lm_head(net._hidden(net._visual_tokens(batch), batch)[0])
    modality = "video" if kind == "clip" else "image"
    names = ("pixel_values_videos", "video_grid_thw") if kind == "clip" else ("pixel_values", "image_grid_thw")
    for question in row.questions:
        alone = pack([row.head], [[question]], QWEN, tokenizer)
        ids = alone["input_ids"]
        visual = ids == getattr(model.config, f"{modality}_token_id")
        types = visual.int() * (2 if kind == "clip" else 1)
        positions, _ = model.model.get_rope_index(ids, types, **{names[1]: row.grid})
        assert torch.equal(positions, alone["position_ids"])
        stock = model(input_ids=ids, mm_token_type_ids=types, **dict(zip(names, (row.pixels, row.grid), strict=True)))
        own = ids[0, len(row.head[0]) :].tolist()
        line = packed["input_ids"][0].tolist()
        start = next(i for i in range(len(row.head[0]), len(line)) if line[i : i + len(own)] == own)
        difference = together[start : start + len(own)] - stock.logits[0, len(row.head[0]) :]
        assert difference.abs().max() < 1e-3


def test_a_run_leaves_an_adapter_that_load_merges(tmp_path, monkeypatch):
    before = (BUNDLED["bundled-qwen"] / "model.safetensors").read_bytes()
    stage = replace(STAGE, steps=2, batch=2, horizon=2, questions=2, drills=1)
    folder = train(stage, tmp_path, rank=2, seed=0, workers=0)
    assert train(replace(stage, steps=0), tmp_path, rank=2, seed=0, workers=0) == folder
    again = train(replace(stage, steps=0), tmp_path / "again", rank=2, seed=0, workers=0, start=folder)
    assert (again / "adapter_model.safetensors").read_bytes() == (folder / "adapter_model.safetensors").read_bytes()
    assert (BUNDLED["bundled-qwen"] / "model.safetensors").read_bytes() == before
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "bundled-qwen"
    shipped = {path.name for path in BUNDLED["bundled-clips"].iterdir()}
    assert {path.name for path in folder.iterdir()} == shipped
    for name in shipped - {"adapter_config.json", "adapter_model.safetensors"}:
        assert (folder / name).read_bytes() == (BUNDLED["bundled-clips"] / name).read_bytes()
    monkeypatch.setitem(loading.BUNDLED, "bundled-clips", folder)
    tuned, stock = load("bundled-clips").model, load("bundled-qwen").model
    weights = dict(stock.named_parameters())
    changed = {name for name, weight in tuned.named_parameters() if not torch.equal(weight, weights[name])}
    assert len(changed) == 40
    assert not any("embed" in name or "norm" in name for name in changed)
