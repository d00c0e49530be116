"""What `skip` leaves out before the encoder, what that does to answers, and what it saves.

Three parts, each written to results/blanks.json as soon as it is done; a part that is there is not run again.

    shares   the share of drawn pages, screens, charts and of a clip that is not encoded, by threshold
    answers  bundled-qwen on the development split, with and without `skip`; also every scene of objects drawn on plain
             paper instead of clutter, after JPEG. "repeats" also leaves out parts that are not blank and equal a
             neighbour. Runs on from the answers in --work
    time     the encoder's time with `skip` beside its time without, on a tower in the shape of Qwen2.5-VL-3B's

    python benchmarks/blanks.py [--parts shares,answers,time]
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import torch
from PIL import Image

from blanks_pages import PAGES, SIDE, compress, draw_recording
from encoder_timing import measure_seconds, quartiles, time_in_turns
from foveate.apps.bench.shapes import SHAPES, build
from foveate.apps.evaluate.arms import ArmInputs, EvalAnswers, EvalArm
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.examples import EvalExample
from foveate.apps.evaluate.runner import evaluate
from foveate.apps.evaluate.statistics import bootstrap_interval
from foveate.method import resolve
from foveate.method.blanks import find_representatives
from foveate.models import family_of
from foveate.pipeline import skip as skip_step
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.settings import check_settings
from foveate.pipeline.skip import choose_units, encode_distinct
from foveate.runtime.load import load, quiet
from foveate.world.drawing import draw_scene
from foveate.world.questions import TASKS
from foveate.world.scenes import CHARTS, Scene
from foveate.world.suite import sample_cases

Find = Callable[[torch.Tensor, tuple[int, int, int], float], torch.Tensor]
OUT = Path(__file__).parent / "results" / "blanks.json"
THRESHOLDS = (0.0, 0.01, 0.02, 0.05)
KEEPS = (1.0, 0.111)
SEEDS = 2
DRAWN_ON_PAPER, MORE = ("chart", "lookup"), 4  # the tasks whose images the model has seen on paper, and how many more
PATCH, MERGE, FRAMES = 14, 2, 2
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TIMED = ("text", "form", "screen")
DEPTH, FULL = 8, (7,)  # layers of the tower, a quarter of them, and those without windows


def cut_patches(images: Sequence[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
    """The pixel values (n, p) and the grid (1, 3) that Qwen2.5-VL's processor makes of an image, or of a clip."""
    frames = [*images, *images[-1:] * (-len(images) % FRAMES)]
    values = (np.stack([np.asarray(frame, np.float32) for frame in frames]) / 255 - MEAN) / STD
    count, high, wide = len(frames) // FRAMES, values.shape[1] // PATCH, values.shape[2] // PATCH
    parts = torch.tensor(values, dtype=torch.float32).reshape(
        count, FRAMES, high // MERGE, MERGE, PATCH, wide // MERGE, MERGE, PATCH, 3
    )
    patches = parts.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(count * high * wide, -1)
    return patches, torch.tensor([[count, high, wide]])


def measure_shares() -> dict[str, dict[str, float]]:
    """The share of the merge units that is left out, of each kind of page and at each threshold."""
    drawn = {name: [[draw(seed)] for seed in range(SEEDS)] for name, draw in PAGES.items()}
    drawn["recording of a screen"] = [draw_recording(seed) for seed in range(SEEDS)]
    cells = {str(skip): (skip, find_representatives) for skip in THRESHOLDS} | {"repeats 0.02": (0.02, find_repeats)}
    table = {}
    for name, some in drawn.items():
        rows = {cell: [_measure_share(one, *how) for one in some] for cell, how in cells.items()}
        table[name] = {cell: round(float(np.mean(row)), 4) for cell, row in rows.items()}
    return table


def _measure_share(images: Sequence[Image.Image], skip: float, find: Find = find_representatives) -> float:
    patches, grid = cut_patches([*images, *images[-1:]] if len(images) == 1 else images)
    t, h, w = grid[0].tolist()
    units = patches.reshape(t * h * w // MERGE**2, MERGE**2, 3, -1)
    firsts = find(units, (t, h // MERGE, w // MERGE), skip)
    return float((firsts != torch.arange(len(firsts))).float().mean())


def find_repeats(units: torch.Tensor, grid: tuple[int, int, int], threshold: float) -> torch.Tensor:
    """`find_representatives` where a unit need not be blank: each of its values is a channel."""
    return find_representatives(units.reshape(len(units), 1, -1, 1), grid, threshold)


@dataclass(frozen=True)
class SkipEvalArm(EvalArm):
    """The default method with `skip`. Where another threshold left out the same parts, its answers are taken."""

    skip: float | None = field(kw_only=True)
    find: Find = field(kw_only=True, default=find_representatives)
    answered: dict[Any, EvalAnswers] = field(kw_only=True)
    measures: ClassVar[dict[str, type]] = {"encoded": float}

    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """Not in use: the report is needed too."""
        raise NotImplementedError

    @torch.no_grad()
    def answer(self, batch: EvalBatch) -> EvalAnswers:
        """Answer greedily; with the share that was encoded of each image."""
        model, grids = batch.loaded.model, batch.inputs["image_grid_thw"]
        masks = [torch.ones(int(grid.prod()) // MERGE**2, dtype=torch.bool) for grid in grids]
        if self.skip is not None:
            with mock.patch.object(skip_step, "find_representatives", self.find):
                masks = choose_units(model, family_of(model), batch.inputs, "image", self.skip)
        key = (self.keep, batch.examples[0].id, torch.cat(masks).numpy().tobytes())
        if key not in self.answered:
            with mock.patch.object(skip_step, "find_representatives", self.find):
                short = prune_inputs(model, batch.inputs, keep=self.budget, method=resolve("foveate"), skip=self.skip)
            items = short.report.items
            self.answered[key] = EvalAnswers(
                self.generate(batch, short), [None] * len(items), [len(item.kept) for item in items], 0.0,
                [{"encoded": float(own.float().mean())} for own in masks],
            )  # fmt: skip
        return self.answered[key]


def draw_on_paper(scene: Scene) -> Image.Image:
    """The scene on the background that fields have, after JPEG."""
    return compress(draw_scene(replace(scene, kind="fields")), 85)


def list_examples(limit: int) -> list[EvalExample]:
    """Questions of all tasks of the development split; those about objects also with the scene on plain paper."""
    examples = []
    for task in TASKS:
        for case in sample_cases("dev", task, limit * (MORE if task in DRAWN_ON_PAPER else 1)):
            answers, text = (case.question.answer,), case.question.text
            examples.append(EvalExample(case.id, task, text, answers, partial(draw_scene, case.scene)))
            if case.scene.kind not in (*CHARTS, "fields"):
                paper = partial(draw_on_paper, case.scene)
                examples.append(EvalExample(f"{case.id}-paper", f"{task}, on paper", text, answers, paper))
    return sorted(examples, key=lambda example: example.task)


def measure_answers(limit: int, work: Path) -> dict[str, Any]:
    """Accuracy by task, budget and threshold, and the difference to no `skip` with its 95 % interval."""
    with quiet():
        loaded = load("bundled-qwen")
    answered: dict[Any, EvalAnswers] = {}
    arms: list[EvalArm] = []
    for keep in KEEPS:
        arms += [SkipEvalArm(f"skip {skip}", keep, skip=skip, answered=answered) for skip in (None, *THRESHOLDS)]
        arms.append(SkipEvalArm("repeats 0.02", keep, skip=0.02, find=find_repeats, answered=answered))
    settings = {"model": "bundled-qwen", "split": "dev"}  # a larger limit goes on from the answers of a smaller one
    rows = evaluate(loaded, list_examples(limit), arms, batch=10, out=work, settings=settings)
    by_arm: dict[tuple[str, float], dict[str, Any]] = defaultdict(dict)
    for row in rows:
        by_arm[row["name"], row["keep"]][row["id"]] = row
    tasks = dict.fromkeys(row["task"] for row in rows)
    groups = {
        "chart and lookup": list(DRAWN_ON_PAPER),
        "on paper": [task for task in tasks if task.endswith("on paper")],
        "on clutter": [task for task in tasks if f"{task}, on paper" in tasks],
    }
    return {**settings, "limit": limit} | {
        name: {
            f"keep {keep}": {
                arm: _compare(rows_of, by_arm["skip None", keep], own)
                for (arm, budget), rows_of in by_arm.items()
                if budget == keep
            }
            for keep in KEEPS
        }
        for name, own in {**groups, **{task: [task] for task in tasks}}.items()
    }


def _compare(rows: dict[str, Any], others: dict[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    """Accuracy, share encoded, kept tokens, and the paired difference to the other rows."""
    own = [row for row in rows.values() if row["task"] in tasks]
    right = np.array([row["right"] for row in own], float)
    difference = right - np.array([others[row["id"]]["right"] for row in own], float)
    return {
        "questions": len(own), "accuracy": round(float(right.mean()), 4),
        "encoded": round(float(np.mean([row["encoded"] for row in own])), 4),
        "tokens": round(float(np.mean([row["tokens"] for row in own])), 1),
        "difference": round(float(difference.mean()), 4),
        "interval": [round(value, 4) for value in bootstrap_interval(difference)],
    }  # fmt: skip


@torch.no_grad()
def measure_time(rounds: int) -> dict[str, Any]:
    """The seconds of the encoder on pages of `SIDE` pixels, and their ratio to those of the whole page."""
    shape = SHAPES["qwen2.5-vl-3b"]
    text = {**shape.config["text_config"], "num_hidden_layers": 2}
    vision = {**shape.config["vision_config"], "depth": DEPTH, "fullatt_block_indexes": list(FULL)}
    shape = replace(shape, config={**shape.config, "text_config": text, "vision_config": vision})
    model = build(shape, 2, torch.float32)[0]
    family, settings = family_of(model), check_settings(0.1, "foveate", skip="blank")
    pages = {}
    for name in TIMED:
        patches, grid = cut_patches([PAGES[name](0)] * FRAMES)
        pages[name] = {"pixel_values": patches, "image_grid_thw": grid}
    choosing = {
        name: round(measure_seconds(partial(choose_units, model, family, page, "image", settings.skip or 0.0)), 3)
        for name, page in pages.items()
    }
    calls = {"whole": partial(family.encode, model, pages["text"])}
    calls |= {name: partial(encode_distinct, model, family, page, settings, None) for name, page in pages.items()}
    spent = time_in_turns(calls, rounds)
    return {
        "side": SIDE, "layers": vision["depth"], "rounds": rounds, "skip": settings.skip,
        "seconds": {name: quartiles(laps) for name, laps in spent.items()}, "seconds_to_choose": choosing,
        "ratio": {
            name: quartiles([lap / whole for lap, whole in zip(laps, spent["whole"], strict=True)])
            for name, laps in spent.items()
        },
    }  # fmt: skip


def main() -> None:
    """Run the parts that are not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="shares,answers,time")
    parser.add_argument("--limit", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/blanks"))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    record = json.loads(options.out.read_text()) if options.out.exists() else {}
    parts = {
        "shares": measure_shares,
        "answers": lambda: measure_answers(options.limit, options.work),
        "time": lambda: measure_time(options.rounds),
    }
    for name in options.parts.split(","):
        if name not in record:
            record[name] = parts[name]()
            options.out.write_text(json.dumps(record, indent=1) + "\n")
        print(name, json.dumps(record[name], indent=1))


if __name__ == "__main__":
    main()
