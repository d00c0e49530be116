"""Policies for tiny models."""

from foveate.policy import Policy
from foveate.policy.policy import Promise, ScoreTerm
from foveate.policy.signature import sign_model


def make_policy(model, *, price=1.0, offsets=(-1.0, -3.0), weight=1.0, **more):
    width = model.get_input_embeddings().weight.shape[1]
    return Policy(
        sign_model(model), more.pop("method", "foveate"), more.pop("positions", "original"), (0.25, 0.5), offsets,
        (ScoreTerm("tokens", 8.0, 4.0, 0.0, 1e9, weight),), (0.0,) * width, (0.0,) * width, -1.0, price,
        Promise(0.01, 0.95, 1000, 0.0, 0.5), more.pop("retry", None),
    )  # fmt: skip
