"""What a case says: figures with their spread, the targets, and a plain verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from foveate.apps.bench.arms import STAGES, Arm, Pruned
from foveate.apps.bench.measure import Case
from foveate.apps.bench.settings import shown

STAGE_NAMES = {"encoder": "vision encoder", "selection": "selection", "prefill": "prefill"}
PREFILL_TARGETS = ((576, 1.02), (None, 1.05))  # up to so many visual tokens: at most this, times the limit
GAIN_TARGET = 0.9  # of what Amdahl's law allows
PAYS = 0.05  # of the time to first token; less is not worth a line of code
FEW = 0.25  # visual tokens in the prompt
DOMINATES = 0.7  # the encoder, of the time to first token


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        low, median, high = np.percentile(values, (25, 50, 75)).tolist()
        return cls(median, low, high)

    def text(self, scale: float = 1.0, digits: int = 1) -> str:
        """`12.3 (12.1 to 12.9)`, in units of 1 / scale."""
        low, high = f"{scale * self.low:.{digits}f}", f"{scale * self.high:.{digits}f}"
        middle = f"{scale * self.median:.{digits}f}"
        return middle if low == middle == high else f"{middle} ({low} to {high})"


@dataclass(frozen=True)
class Target:
    """One thing that pruning should reach: the figure, the bound that it is held to, and whether it is met.

    `digits` behind the point are what the figure is good for, in print as in judging.
    """

    name: str
    value: Spread
    bound: float
    met: bool
    digits: int = 3


@dataclass(frozen=True)
class Figures:
    """A pruned arm beside the unpruned one and its limit.

    Shares of the unpruned time to first token: `saved`, and `allowed`, which would be saved if choosing cost nothing
    and the prefill were the limit's (None without a limit). `left` are the shares of encoder, selection and prefill in
    what is left. `targets` are those that could be measured.
    """

    saved: Spread
    allowed: Spread | None
    left: dict[str, float]
    targets: tuple[Target, ...]


def figures(case: Case, arm: Pruned) -> Figures:
    """Ratios within a round, then their median: a slow moment of the machine hits both sides."""
    whole, own = _seconds(case.whole), _seconds(arm)
    saved = 1 - own["first_token"] / whole["first_token"]
    left = {stage: float(np.median(own[stage] / own["first_token"])) for stage in STAGES}
    limit, allowed, targets = case.limits.get(arm.length), None, []
    if limit is not None:
        reached = _seconds(limit)
        ratio = Spread.of((own["prefill"] / reached["prefill"]).tolist())
        bound = next(bound for most, bound in PREFILL_TARGETS if most is None or case.total <= most)
        targets.append(Target("prefill, times the limit", ratio, bound, round(ratio.median, 3) <= bound))
        possible = 1 - reached["first_token"] / whole["first_token"]
        allowed = Spread.of(possible.tolist())
        if allowed.median > 0:
            some = possible > 0
            gain = Spread.of((saved[some] / possible[some]).tolist())
            met = round(gain.median, 3) >= GAIN_TARGET
            targets.append(Target("TTFT gain, of what Amdahl allows", gain, GAIN_TARGET, met))
        if arm.kv_bytes and limit.kv_bytes:
            bytes_ratio = Spread.of([arm.kv_bytes / limit.kv_bytes])
            targets.append(Target("KV bytes, times the limit", bytes_ratio, 1.0, arm.kv_bytes == limit.kv_bytes))
    if arm.peak is not None and case.whole.peak is not None and case.whole.peak.above:
        peak = Spread.of([arm.peak.above / case.whole.peak.above])
        targets.append(Target("peak memory, times unpruned", peak, 1.0, round(peak.median, 2) <= 1, digits=2))
    return Figures(Spread.of(saved.tolist()), allowed, left, tuple(targets))


def _seconds(arm: Arm) -> dict[str, Any]:
    """Seconds of every stage as arrays, a figure a round; a stage that an arm has not takes none."""
    rounds = len(arm.seconds["prefill"])
    return {stage: np.array(arm.seconds.get(stage, [0.0] * rounds)) for stage in (*STAGES, "first_token")}


def verdict(case: Case) -> str:
    """Whether pruning pays for this model, batch and picture, at the budget that saves the most; and if not, why."""
    arm, found = max(((arm, figures(case, arm)) for arm in case.pruned), key=lambda pair: pair[1].saved.median)
    saved, memory = found.saved.median, _memory(case, arm)
    if saved >= PAYS and found.saved.low > 0:
        by = f" by {arm.method.name}" if len({each.method.name for each in case.pruned}) > 1 else ""
        stage = max(found.left, key=lambda name: found.left[name])
        return (
            f"{_where(case)}: pruning to {arm.kept / case.total:.0%} ({arm.kept} of {case.total} visual tokens{by}) "
            f"saves {saved:.0%} of the time to first token{memory}; "
            f"the {STAGE_NAMES[stage]} is now {found.left[stage]:.0%} of what is left."
        )
    also = f" It does save{memory.removeprefix(' and')} at {arm.kept} visual tokens." if memory else ""
    return f"{_where(case)}: will not pay here, because {_reason(case, arm, found)}.{also}"


def _where(case: Case) -> str:
    prompts = "1 prompt" if case.batch == 1 else f"{case.batch} prompts"
    return f"{prompts}, picture {shown(case.size)}"


def _memory(case: Case, arm: Pruned) -> str:
    """What becomes of the KV cache, where something does."""
    if not arm.kv_bytes or not case.whole.kv_bytes or arm.kv_bytes >= case.whole.kv_bytes:
        return ""
    return f" and {1 - arm.kv_bytes / case.whole.kv_bytes:.0%} of the KV cache"


def _reason(case: Case, arm: Pruned, found: Figures) -> str:
    whole, own = ({name: float(np.median(v)) for name, v in _seconds(a).items()} for a in (case.whole, arm))
    shorter = whole["prefill"] - own["prefill"]
    cost = shorter - (whole["first_token"] - own["first_token"])
    encoder = whole["encoder"] / whole["first_token"]
    if case.total / case.whole.length < FEW:
        return f"only {case.total} of the prompt's {case.whole.length} tokens are visual"
    if shorter <= 0:
        return "the prefill takes no less time with fewer visual tokens on this machine"
    if encoder >= DOMINATES:
        most = found.allowed.median if found.allowed else shorter / whole["first_token"]
        return (
            f"the vision encoder, which pruning leaves alone, is {encoder:.0%} of the time to first token: "
            f"at most {max(0.0, most):.0%} can be saved"
        )
    if cost >= shorter / 2:
        return (
            f"the prefill gets only {1000 * shorter:.1f} ms shorter, and choosing the tokens costs "
            f"{1000 * cost:.1f} ms: the prompt is short for this model"
        )
    return (
        f"what is saved of the time to first token ({found.saved.text(100, 0)} %) is little, or no more than the "
        "spread from round to round; more --rounds, or a quieter machine, would tell"
    )


def record(case: Case) -> dict[str, Any]:
    """A case as JSON would have it: times in seconds with every round, memory in bytes."""
    return {
        "batch": case.batch,
        "image_size": shown(case.size),
        "visual_tokens": case.total,
        "prompt_tokens": case.whole.length,
        "arms": [_arm(case, arm) for arm in case.arms],
        "notes": list(case.notes),
        "verdict": verdict(case),
    }


def _arm(case: Case, arm: Arm) -> dict[str, Any]:
    peak = None if arm.peak is None else {"before": arm.peak.before, "above": arm.peak.above}
    found: dict[str, Any] = {
        "name": arm.name, "kind": type(arm).__name__.lower(), "kept": arm.kept, "length": arm.length,
        "seconds": {stage: {**asdict(Spread.of(v)), "rounds": v} for stage, v in arm.seconds.items()},
        "decode_seconds_per_token": asdict(Spread.of(arm.decode)) if arm.decode else None,
        "kv_bytes": arm.kv_bytes, "peak_bytes": peak,
    }  # fmt: skip
    if isinstance(arm, Pruned):
        own = figures(case, arm)
        found |= {
            "method": arm.method.name, "keep": arm.keep, "saved": asdict(own.saved),
            "allowed": None if own.allowed is None else asdict(own.allowed), "shares_of_what_is_left": own.left,
            "targets": [{"name": t.name, **asdict(t.value), "bound": t.bound, "met": t.met} for t in own.targets],
        }  # fmt: skip
    return found
