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

SHORT = TrainingStage(
    steps=4, batch=2, horizon=4, rate=1e-3, stream=0, questions=3, captions=1, diet=dict.fromkeys(TASKS, 1)
)
STAGES = ("see", "read", "align", "talk")
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
        for before, stage in (("read", "align"), ("align", "talk"))
    }
    assert moved["align"] == {"connector"}
    assert moved["talk"] == {"connector", "language"}
    assert load(str(folder)).model.config.model_type in ("llava", "qwen2_5_vl")


def part(key):
    if "multi_modal_projector" in key or "merger" in key:
        return "connector"
    return "vision" if "vision_tower" in key or "visual" in key else "language"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_losses_fall(name, tmp_path):
    long = TrainingStage(steps=50, batch=4, horizon=50, rate=2e-3, stream=0)
    words = replace(SHORT, steps=50, horizon=50)
    plan = replace(PLAN, see=long, read=words)
    for stage in ("see", "read"):
        train(name, plan, tmp_path, stage)
        losses = [json.loads(line)["loss"] for line in (tmp_path / f"{stage}.jsonl").read_text().splitlines()]
        assert losses[-1] < 0.9 * losses[0]
