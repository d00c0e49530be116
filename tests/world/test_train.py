import json
from dataclasses import replace

import pytest
import torch

from foveate.world import train as training
from foveate.world.data import Plan, Stage
from foveate.world.train import train

SHORT = Stage(steps=4, batch=2, horizon=4, rate=1e-3, stream=0, diet=("color", "count"), captions=1)
PLAN = Plan(
    see=replace(SHORT, diet=()), talk=SHORT, drill=replace(SHORT, stream=100), warmup=2, workers=0, save_every=2
)


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_to_the_very_same_weights(tmp_path, monkeypatch):
    train(PLAN, tmp_path / "straight")
    right = training.nn.utils.clip_grad_norm_
    for stage, after in (("see", 3), ("talk", 5), ("drill", 5)):
        calls = []

        def dying(*args, after=after, calls=calls):
            calls.append(1)
            if len(calls) == after:
                raise Killed
            return right(*args)

        monkeypatch.setattr(training.nn.utils, "clip_grad_norm_", dying)
        with pytest.raises(Killed):
            train(PLAN, tmp_path / "killed")
        assert torch.load(tmp_path / "killed" / f"{stage}.pt", weights_only=True)["done"] == 2
    monkeypatch.setattr(training.nn.utils, "clip_grad_norm_", right)
    train(PLAN, tmp_path / "killed")
    for name in ("see.pt", "talk.pt", "drill.pt"):
        one, other = (torch.load(tmp_path / run / name, weights_only=True)["net"] for run in ("straight", "killed"))
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_loss_falls_and_the_folder_loads(tmp_path):
    see = Stage(steps=25, batch=4, horizon=25, rate=1e-3, stream=0)
    plan = replace(PLAN, see=see, talk=replace(SHORT, steps=1), drill=replace(SHORT, steps=1))
    folder = train(plan, tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "see.jsonl").read_text().splitlines()]
    assert losses[-1] < 16  # 18.5 untrained
    from foveate.load import load

    assert load(str(folder)).model.config.foveate_template["roles"]
