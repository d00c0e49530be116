"""The budget as users write it: a number, "auto", or the file of a policy."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from foveate.errors import InputError

if TYPE_CHECKING:
    from foveate.pipeline.settings import Keep

NUMBERS = "give a share (0.1) or a number of tokens (64)"


def parse_budget(text: str, option: str = "--keep") -> Keep:
    """A number as `parse_keep` reads it, "auto", or the policy in a file. Raises `InputError` for anything else."""
    text = text.strip()
    if text == "auto":
        return "auto"
    if not text.endswith(".json"):
        return parse_keep(text, option, f"{NUMBERS}, auto, or the .json file of a policy")
    from foveate.policy import Policy

    return Policy.load(text)


def choose_budget(keep: str | None, policy: str | None, default: str = "0.1") -> Keep:
    """The budget of --keep, or of --policy, which is a file. Raises `InputError` if they differ."""
    if policy is None:
        return parse_budget(default if keep is None else keep)
    if keep not in (None, policy):
        raise InputError(f"--keep {keep} and --policy {policy} both set the budget: leave one of them out.")
    from foveate.policy import Policy

    return Policy.load(policy)


def parse_arms(text: str, keep: Keep, method: str) -> list[tuple[Keep, str]]:
    """This (budget, method), then for each part of `"divprune,0.3"` a method at this budget or this method at a budget.

    Raises `InputError` for a part that is there already.
    """
    arms = [(keep, method)]
    for part in filter(None, map(str.strip, text.split(","))):
        is_budget = part == "auto" or part.endswith(".json") or part[0] in "0123456789.-+"
        arm = (parse_budget(part, "--compare"), method) if is_budget else (keep, part)
        if arm in arms:
            raise InputError(f"--compare {part} is there already: leave it out, or give another method or budget.")
        arms.append(arm)
    return arms


def describe_budget(keep: Keep) -> int | float | str:
    """The budget for a record: a number, "auto", shares by age, or "policy" with a fingerprint."""
    if isinstance(keep, (int, float, str)):
        return keep
    from foveate.method.recency import Recency

    if isinstance(keep, Recency):
        return repr(keep)
    text = json.dumps(keep.to_record(), sort_keys=True)
    return f"policy {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def parse_keep(text: str, option: str = "--keep", choices: str = NUMBERS) -> int | float:
    """A number of tokens, or with a dot (or an exponent) a share. Raises `InputError` for anything else."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    raise InputError(f"{option} {text!r} is no number: {choices}.")
