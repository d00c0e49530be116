"""What a case shows: ratios with their spread, the targets, and a verdict in plain words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from foveate.apps.bench.arms import STAGES, BenchArm, EncodedBenchArm, PrunedBenchArm
from foveate.apps.bench.encoded import to_encoded_record
from foveate.apps.bench.measure import BenchCase
from foveate.apps.bench.settings import format_size
from foveate.apps.bench.spread import FEW, Spread

STAGE_NAMES = {"encoder": "vision encoder", "glance": "first look", "selection": "selection", "prefill": "prefill"}
PREFILL_TARGETS = ((576, 1.02), (None, 1.05))  # up to so many visual tokens: at most this, times the limit
GAIN_TARGET = 0.9  # of what Amdahl's law allows
MIN_SAVED = 0.05  # of the time to first token; less is not worth a line of code
FEW_VISUAL = 0.25  # of the prompt's tokens
TOO_FEW = f"Too few rounds for an interval: give --rounds {FEW} or more."
ENCODER_DOMINATES = 0.7  # of the time to first token


@dataclass(frozen=True)
class BenchTarget:
    """One thing that pruning should reach: the measured value, its bound, and whether the bound is met.

    `digits` is the number of decimals, both in print and for the comparison with the bound.
    """

    name: str
    value: Spread
    bound: float
    met: bool
    digits: int = 3

    def format(self) -> str:
        """`1.015 met (1.02)`."""
        return f"{self.value.format(1, self.digits)} {'met' if self.met else 'NOT MET'} ({self.bound})"


@dataclass(frozen=True)
class BenchFigures:
    """A pruned arm compared with the unpruned one and with its limit.

    `faster` is the unpruned time to first token, times the pruned one. Shares of the unpruned one: `saved`, and
    `allowed`, what would be saved if selection cost nothing and the prefill were the limit's (None without a limit, or
    where some tiles are not encoded). `left` has the shares of its stages in the time that is left. `targets` are those
    that could be measured.
    """

    saved: Spread
    faster: Spread
    allowed: Spread | None
    left: dict[str, float]
    targets: tuple[BenchTarget, ...]


def compute_figures(case: BenchCase, arm: PrunedBenchArm) -> BenchFigures:
    """Ratios within a round, then their median, because a slow moment of the machine affects both sides."""
    unpruned, pruned = _get_seconds(case.unpruned), _get_seconds(arm)
    saved = 1 - pruned["first_token"] / unpruned["first_token"]
    faster = Spread.from_values(unpruned["first_token"] / pruned["first_token"])
    left = {stage: float(np.median(pruned[stage] / pruned["first_token"])) for stage in STAGES if stage in arm.seconds}
    limit, allowed, targets = case.limits.get(arm.length), None, []
    if limit is not None:
        lowest = _get_seconds(limit)
        ratio = Spread.from_values(pruned["prefill"] / lowest["prefill"])
        bound = next(bound for most, bound in PREFILL_TARGETS if most is None or case.total <= most)
        targets.append(BenchTarget("prefill, times the limit", ratio, bound, round(ratio.median, 3) <= bound))
        possible = 1 - lowest["first_token"] / unpruned["first_token"]
        allowed = None if isinstance(arm, EncodedBenchArm) else Spread.from_values(possible)  # the limit encodes all
        if allowed is not None and allowed.median > 0:
            gain = Spread.from_values(saved[possible > 0] / possible[possible > 0])
            met = round(gain.median, 3) >= GAIN_TARGET
            targets.append(BenchTarget("TTFT gain, of what Amdahl allows", gain, GAIN_TARGET, met))
        if arm.kv_bytes and limit.kv_bytes:
            bytes_ratio = Spread.from_values([arm.kv_bytes / limit.kv_bytes])
            targets.append(BenchTarget("KV bytes, times the limit", bytes_ratio, 1.0, arm.kv_bytes == limit.kv_bytes))
    if arm.peak is not None and case.unpruned.peak is not None and case.unpruned.peak.above:
        peak = Spread.from_values([arm.peak.above / case.unpruned.peak.above])
        targets.append(BenchTarget("peak memory, times unpruned", peak, 1.0, round(peak.median, 2) <= 1, digits=2))
    return BenchFigures(Spread.from_values(saved), faster, allowed, left, tuple(targets))


def _get_seconds(arm: BenchArm) -> dict[str, Any]:
    """Seconds of every stage as arrays with one value a round; zeros for a stage that the arm does not have."""
    zeros = [0.0] * len(arm.seconds["prefill"])
    return {stage: np.array(arm.seconds.get(stage, zeros)) for stage in (*STAGES, "first_token")}


def write_verdict(case: BenchCase) -> str:
    """Whether pruning pays for this model, batch and image size, at the budget that saves most; if not, why.

    Both with quartiles over rounds, or with the remark that there are too few of them.
    """
    candidates = [(arm, compute_figures(case, arm)) for arm in case.pruned]
    arm, figures = max(candidates, key=lambda pair: pair[1].saved.median)
    memory, rounds = _describe_memory(case, arm), len(arm.seconds["first_token"])
    saved = f"{figures.saved.describe(rounds, 100, 0, '%')} of the time to first token"
    spread = f"In brackets: quartiles of {rounds} rounds." if rounds >= FEW else TOO_FEW
    prompts = "1 prompt" if case.batch == 1 else f"{case.batch} prompts"
    where = f"{prompts}, image {format_size(case.size)}"
    kept = f"{_format_share(arm.kept / case.total)} ({arm.kept} of {case.total} visual tokens"
    if figures.saved.median >= MIN_SAVED and figures.saved.low > 0:
        by = f" by {arm.method.name}" if len({each.method.name for each in case.pruned}) > 1 else ""
        stage = max(figures.left, key=lambda name: figures.left[name])
        tiles = ", {} of {} parts encoded".format(*arm.tiles) if isinstance(arm, EncodedBenchArm) else ""
        return (
            f"{where}: pruning to {kept}{by}{tiles}) saves {saved}{memory}: the first token comes "
            f"{figures.faster.describe(rounds)} times faster, and the {STAGE_NAMES[stage]} is now "
            f"{figures.left[stage]:.0%} of what is left. {spread}"
        )
    also = f" It does save{memory.removeprefix(' and')} at {arm.kept} visual tokens." if memory else ""
    why = _explain_loss(case, arm, figures)
    return f"{where}: will not pay here, because {why}. At best, pruning to {kept}) saves {saved}.{also} {spread}"


def _format_share(share: float) -> str:
    """A share in percent, which is not 0 where something is left."""
    return f"{share:.0%}" if share >= 0.01 else f"{100 * share:.1g}%"


def _describe_memory(case: BenchCase, arm: PrunedBenchArm) -> str:
    """The saved share of the KV cache, if there is one."""
    if not arm.kv_bytes or not case.unpruned.kv_bytes or arm.kv_bytes >= case.unpruned.kv_bytes:
        return ""
    return f" and {1 - arm.kv_bytes / case.unpruned.kv_bytes:.0%} of the KV cache"


def _explain_loss(case: BenchCase, arm: PrunedBenchArm, figures: BenchFigures) -> str:
    unpruned, pruned = (
        {name: float(np.median(values)) for name, values in _get_seconds(each).items()} for each in (case.unpruned, arm)
    )
    shorter = unpruned["prefill"] - pruned["prefill"]
    cost = shorter - (unpruned["first_token"] - pruned["first_token"])
    encoder = unpruned["encoder"] / unpruned["first_token"]
    if case.total / case.unpruned.length < FEW_VISUAL:
        return f"only {case.total} of the prompt's {case.unpruned.length} tokens are visual"
    if shorter <= 0:
        return "the prefill takes no less time with fewer visual tokens on this machine"
    if encoder >= ENCODER_DOMINATES and not isinstance(arm, EncodedBenchArm):
        most = figures.allowed.median if figures.allowed else shorter / unpruned["first_token"]
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
        "what is saved of the time to first token is little, or no more than the spread from round to round; more "
        "--rounds, or a quieter machine, would tell"
    )


def to_record(case: BenchCase) -> dict[str, Any]:
    """A case as JSON: times in seconds with every round, memory in bytes."""
    return {
        "batch": case.batch,
        "image_size": format_size(case.size),
        "visual_tokens": case.total,
        "prompt_tokens": case.unpruned.length,
        "arms": [_to_arm_record(case, arm) for arm in case.arms],
        "notes": list(case.notes),
        "verdict": write_verdict(case),
    }


def _to_arm_record(case: BenchCase, arm: BenchArm) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": arm.name,
        "kind": arm.kind,
        "kept": arm.kept,
        "length": arm.length,
        "seconds": {stage: {**asdict(Spread.from_values(v)), "rounds": v} for stage, v in arm.seconds.items()},
        "decode_seconds_per_token": asdict(Spread.from_values(arm.decode)) if arm.decode else None,
        "kv_bytes": arm.kv_bytes,
        "peak_bytes": None if arm.peak is None else asdict(arm.peak),
    }
    if isinstance(arm, PrunedBenchArm):
        figures = compute_figures(case, arm)
        record |= {
            "method": arm.method.name,
            "keep": arm.keep,
            "saved": asdict(figures.saved),
            "times_faster": asdict(figures.faster),
            "allowed": None if figures.allowed is None else asdict(figures.allowed),
            "shares_of_what_is_left": figures.left,
            "targets": [{"name": t.name, **asdict(t.value), "bound": t.bound, "met": t.met} for t in figures.targets],
        }
    return {**record, **to_encoded_record(arm)} if isinstance(arm, EncodedBenchArm) else record
