"""Small policies for tests, and a model that comes with one."""

from __future__ import annotations

from foveate.policy import Policy, shipped
from foveate.policy.policy import Promise, ScoreTerm
from foveate.policy.signature import sign_model

BUDGETS = (0.25, 0.5)
CHEAP, SAFE = 0.0, 1e12  # prices at which the smallest budget is chosen, and all tokens


def make_policy(
    model, *, price=CHEAP, mean=8.0, low=0.0, high=1e9, method="foveate", positions="original", offsets=(-1.0, -3.0),
    weight=1.0, retry=None,
):  # fmt: skip
    """A policy for the model that goes by the number of tokens, calibrated on images of `low` to `high` tokens."""
    width = model.get_input_embeddings().weight.shape[1]
    return Policy(
        sign_model(model), method, positions, BUDGETS, offsets, (ScoreTerm("tokens", mean, 4.0, low, high, weight),),
        (0.0,) * width, (0.0,) * width, -1.0, price, Promise(0.01, 0.95, 1000, 0.0, 0.5), retry,
    )  # fmt: skip


def save_policy(model, folder, **settings):
    """The path of such a policy in a file."""
    path = folder / "mine.policy.json"
    make_policy(model, **settings).save(path)
    return path


def ship(monkeypatch, folder, *policies):
    """Let these policies alone come with foveate, until the end of the test."""
    for number, policy in enumerate(policies):
        policy.save(folder / f"{number}.policy.json")
    monkeypatch.setattr(shipped, "FOLDER", folder)
    monkeypatch.setattr(shipped, "_read_all", shipped._read_all.__wrapped__)
