"""The policies that come with the bundled models."""

from functools import cache
from pathlib import Path
from typing import Any

from foveate.errors import InputError
from foveate.policy.policy import Policy
from foveate.policy.signature import sign_model

FOLDER = Path(__file__).parent / "shipped"


def find_shipped(model: Any) -> Policy:
    """The policy that keep="auto" stands for. Raises `InputError` for a model without one."""
    signature = sign_model(model)
    for policy in _read_all():
        if policy.model.fits(signature):
            return policy
    raise InputError(
        f'keep="auto" needs a policy for this model ({signature.model_type}), and none comes with it: make one with '
        "foveate calibrate, and pass keep=foveate.Policy.load(FILE)."
    )


@cache
def _read_all() -> tuple[Policy, ...]:
    return tuple(Policy.load(path) for path in sorted(FOLDER.glob("*.policy.json")))
