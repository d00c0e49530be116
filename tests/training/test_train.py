import json
from dataclasses import replace

import pytest
import torch

from foveate.runtime.load import load
from foveate.world.questions import TASKS
from training import loop
from training.build import ARCHITECTURES
from training.plans import PLANS, TrainingPlan, TrainingStage
from training.train import train

ALL_KINDS = {"scene": 1, "crowd": 1, "shelf": 1, "fields": 1}
SHORT = TrainingStage(
    steps=3,
    batch=1,
    horizon=4,
    rate=1e-3,
    stream=0,
    questions=2,
    captions=1,
    diet=dict.fromkeys(TASKS, 1),
    scenes=ALL_KINDS,
)
STAGES = ("see", "read", "align", "talk", "zoom", "crowd")
PLAN = TrainingPlan(
    *(replace(SHORT, stream=100 * i) for i in range(len(STAGES))), likeness=0.5, warmup=2, workers=0, save_every=2
)


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_to_the_very_same_weights(tmp_path, monkeypatch):
    train("llava", PLAN, tmp_path / "straight")
    clip, calls, deaths = loop.nn.utils.clip_grad_norm_, [], 0

    def dying(*args):
        calls.append(1)
        if len(calls) == 3:  # one step after all was saved
            raise Killed
        return clip(*args)

    monkeypatch.setattr(loop.nn.utils, "clip_grad_norm_", dying)
    while not (tmp_path / "killed" / "model").exists():
        calls.clear()
        try:
            train("llava", PLAN, tmp_path / "killed")
        except Killed:
            deaths += 1
    assert deaths >= len(STAGES)
    for stage in STAGES:
        one, other = (
            torch.load(tmp_path / run / f"{stage}.pt", weights_only=True)["net"] for run in ("straight", "killed")
        )
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_stage_moves_its_own_part_alone(name, tmp_path):
    # The cosine loss is about patches, so it needs a model that does not merge them.
    folder = train(name, replace(PLAN, likeness=PLANS[name].likeness), tmp_path)
    weights = {stage: torch.load(tmp_path / f"{stage}.pt", weights_only=True)["net"] for stage in STAGES}
    moved = {
        stage: {part(key) for key in weights[stage] if not torch.equal(weights[stage][key], weights[before][key])}
        for before, stage in (("read", "align"), ("align", "talk"), ("talk", "crowd"))
    }
    assert moved["align"] == {"connector"}
    assert moved["talk"] == {"connector", "language"}
    assert moved["crowd"] == {"connector", "language", "vision"}, "The vision part moved in *zoom*."
    assert load(str(folder)).model.config.model_type in ("llava", "qwen2_5_vl")


def test_a_finished_model_goes_on_with_crowded_scenes(tmp_path):
    first = train("qwen", replace(PLAN, likeness=0.0), tmp_path / "first")
    train("qwen", replace(PLAN, likeness=0.0), tmp_path / "second", start=first)
    assert {path.stem for path in (tmp_path / "second").glob("*.pt")} == {"zoom", "crowd"}
    before, after = (load(str(tmp_path / run / "model")).model.state_dict() for run in ("first", "second"))
    change = {part(key) for key in before if not torch.equal(before[key], after[key])}
    assert change == {"vision", "connector", "language"}
    assert all((before[key] - after[key]).abs().max() < 0.1 for key in before), "It starts from the weights it got."


def part(key):
    if "multi_modal_projector" in key or "merger" in key:
        return "connector"
    return "vision" if "vision_tower" in key or "visual" in key else "language"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_losses_fall(name, tmp_path):
    long = TrainingStage(steps=50, batch=4, horizon=50, rate=2e-3, stream=0)
    words = replace(SHORT, steps=50, horizon=50, questions=3)
    plan = replace(PLAN, see=long, read=words)
    for stage in ("see", "read"):
        train(name, plan, tmp_path, stage)
        losses = [json.loads(line)["loss"] for line in (tmp_path / f"{stage}.jsonl").read_text().splitlines()]
        assert losses[-1] < 0.9 * losses[0]
