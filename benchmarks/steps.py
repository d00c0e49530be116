"""What the steps of decoding need of the image: VisionPulse, the same a layer earlier, and random tokens.

On what signs say, which takes several tokens: the first one comes from the prompt. Writes results/steps.json.

    python benchmarks/steps.py
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from foveate.apps.evaluate.arms import EvalArm, InDecoderEvalArm, UnprunedEvalArm
from foveate.apps.evaluate.examples import sample_examples
from foveate.apps.evaluate.runner import evaluate
from foveate.method.in_steps import StepMethod
from foveate.method.visionpulse import VisionPulse
from foveate.runtime.load import load, quiet
from losses import score

OUT = Path(__file__).parent / "results" / "steps.json"
KEEPS = (0.05, 1)  # the second one is a number: one token
TASK = "reading"


@dataclass(frozen=True)
class RandomSteps(StepMethod):
    """As many tokens as VisionPulse attends to at most, at random, the same ones at every step."""

    name: ClassVar[str] = "random steps"
    paper: ClassVar[str] = "baseline"
    summary: ClassVar[str] = "at each step of decoding, the same random tokens"

    def find_anchor(self, depth: int) -> int:
        """Return that of VisionPulse."""
        return VisionPulse().find_anchor(depth)

    def _select(self, logits: Tensor, visual: Tensor, k: int) -> Tensor:
        order = torch.randperm(int(visual.sum()), generator=torch.Generator().manual_seed(0))
        return order[:k].sort().values.to(logits.device)


METHODS = {
    "visionpulse": VisionPulse(), "visionpulse(anchor_at=0)": VisionPulse(anchor_at=0), "random steps": RandomSteps(),
}  # fmt: skip


def measure(name: str, split: str, limit: int) -> dict[str, object]:
    """The accuracies of one model by arm."""
    with quiet():
        loaded = load(name)
    arms: list[EvalArm] = [UnprunedEvalArm("unpruned", None)]
    arms += [InDecoderEvalArm(label, keep, method=method) for keep in KEEPS for label, method in METHODS.items()]
    rows = evaluate(loaded, sample_examples((TASK,), split, limit), arms, batch=20)
    table = {arm.label: score([row["right"] for row in rows if row["arm"] == arm.label]) for arm in arms}
    return {"model": name, "task": TASK, "split": split, "questions": limit, "arms": table}


def main() -> None:
    """Write the tables of both bundled models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="bundled,bundled-qwen")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    tables = [measure(name, options.split, options.limit) for name in options.models.split(",")]
    options.out.write_text(json.dumps(tables, indent=1) + "\n")
    for table in tables:
        print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
