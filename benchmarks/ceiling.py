"""What the question can be worth in crowded scenes: the tokens chosen by the true place of the answer.

First the tokens that the objects of the question cover, then those of the blind rule; beside the unpruned model, the
default, its blind self and the glance. Writes results/ceiling.json.

    python benchmarks/ceiling.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from foveate.apps.evaluate.arms import ArmInputs, EvalArm, PrunedEvalArm, UnprunedEvalArm
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.examples import sample_examples
from foveate.apps.evaluate.runner import evaluate
from foveate.method import Method, resolve
from foveate.method.foveate import Foveate
from foveate.method.selection import select_farthest
from foveate.method.tokens import VisualTokens
from foveate.runtime.load import load, quiet
from foveate.world.drawing import locate_glyphs
from foveate.world.suite import HeldOutCase, sample_cases
from losses import score

OUT = Path(__file__).parent / "results" / "ceiling.json"
KEEPS = (0.111, 0.056)
TASKS = {"bundled-qwen": ("crowd", "search", "lookup"), "bundled": ("crowd",)}  # those that each model has learned


@dataclass(frozen=True)
class TruePlace(Method):
    """The tokens that the objects of each case cover most, then those of the blind rule."""

    cases: Sequence[HeldOutCase] = ()

    name: ClassVar[str] = "true place"
    paper: ClassVar[str] = "ceiling"
    summary: ClassVar[str] = "where the answer is, as the drawing says"
    prompt_aware: ClassVar[bool] = False

    def _select_many(self, images: Sequence[VisualTokens], ks: Sequence[int]) -> list[Tensor]:
        return [self._choose(*each) for each in zip(self.cases, images, ks, strict=True)]

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        raise NotImplementedError("A batch has its cases.")

    def _choose(self, case: HeldOutCase, tokens: VisualTokens, k: int) -> Tensor:
        assert tokens.grid is not None
        cover = measure_cover(case, *tokens.grid[1:])
        core = cover.sort(descending=True, stable=True).indices[: min(k, int((cover > 0).sum()))]
        if len(core) == k:
            return core.sort().values
        (rest,) = select_farthest([Foveate(focus=0.0).make_problem(tokens, k - len(core), core.sort().values)])
        return torch.cat([core, rest]).sort().values


def measure_cover(case: HeldOutCase, rows: int, columns: int) -> Tensor:
    """(rows * columns,) the share of each cell that an object of the question, or its text, covers."""
    boxes = [(t.x - t.rx, t.y - t.ry, t.x + t.rx, t.y + t.ry) for t in case.question.things]
    boxes += [box for thing in case.question.things for box in locate_glyphs(thing)]
    cover = torch.zeros(rows, columns)
    for left, top, right, bottom in boxes:
        across = _overlap(left * columns, right * columns, columns)
        cover = torch.maximum(cover, _overlap(top * rows, bottom * rows, rows)[:, None] * across)
    return cover.reshape(-1)


def _overlap(low: float, high: float, cells: int) -> Tensor:
    """The share of each of the unit cells in a row that lies between `low` and `high`."""
    start = torch.arange(cells, dtype=torch.float)
    return (torch.clamp(start + 1, max=high) - torch.clamp(start, min=low)).clamp(min=0)


@dataclass(frozen=True)
class CeilingEvalArm(EvalArm):
    """The arm of `TruePlace`."""

    cases: dict[str, HeldOutCase] = field(kw_only=True)

    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """Tell the method which cases the batch has."""
        method = TruePlace([self.cases[example.id] for example in batch.examples])
        return PrunedEvalArm(self.name, self.keep, method=method).inputs(batch)


def measure(name: str, split: str, limit: int, keeps: Sequence[float]) -> dict[str, object]:
    """The accuracies of one model."""
    tasks = TASKS[name]
    with quiet():
        loaded = load(name)
    cases = {case.id: case for task in tasks for case in sample_cases(split, task, limit)}
    arms: list[EvalArm] = [UnprunedEvalArm("unpruned", None)]
    for keep in keeps:
        default = resolve("foveate")
        methods = {"foveate": default, "foveate, blind": Foveate(focus=0.0), "glance": resolve("glance")}
        arms += [PrunedEvalArm(label, keep, method=method) for label, method in methods.items()]
        arms.append(CeilingEvalArm("true place", keep, cases=cases))
    rows = evaluate(loaded, sample_examples(tasks, split, limit), arms, batch=20)
    table: dict[str, dict[str, object]] = {}
    for arm in arms:
        own = [row for row in rows if row["arm"] == arm.label]
        for task in ("all", *tasks):
            right = [row["right"] for row in own if task in ("all", row["task"])]
            table.setdefault(arm.label, {})[task] = score(right)
    return {"model": name, "split": split, "questions": limit, "arms": table}


def main() -> None:
    """Write the tables of both bundled models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="bundled-qwen,bundled")
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    tables = [measure(name, options.split, options.limit, KEEPS) for name in options.models.split(",")]
    options.out.write_text(json.dumps(tables, indent=1) + "\n")
    for table in tables:
        print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
