"""Large pages in tiles: accuracy and time of encoding some of them, chosen by the question or otherwise.

Beside all tiles: the page resized to as few tiles, random ones, and ones chosen without the question. Resumes from the
answers in --answers, also with a larger --limit; writes results/pages-SIDE.json.

    python benchmarks/pages.py --split test --seed 1 --methods foveate --side 1344 --limit 30
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

import torch
from PIL import Image
from torch import Tensor

from foveate.apps.encoder import EncoderOptions
from foveate.apps.evaluate.answers import ENCODED
from foveate.apps.evaluate.arms import ArmInputs, EvalAnswers, EvalArm, PrunedEvalArm, UnprunedEvalArm, list_kept
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.encoded import EncodedEvalArm
from foveate.apps.evaluate.examples import EvalExample, sample_examples
from foveate.apps.evaluate.runner import evaluate
from foveate.method import Method, resolve, tiles as choosing
from foveate.method.foveate import Foveate
from foveate.method.tiles import SALIENT, rank_tiles
from foveate.method.tokens import VisualTokens
from foveate.pipeline import tiles
from foveate.pipeline.prune import prune_inputs
from foveate.runtime.load import load, quiet
from foveate.runtime.loaded import LoadedModel
from foveate.world.pages import CELLS_OF_SIDE, PAGE_TASKS, SIDES
from losses import score

RESULTS = Path(__file__).parent / "results"
KEEP = 0.1
CHOICES = ("question", "random", "blind")
ABOVE = "above "


@dataclass(frozen=True)
class TilesEvalArm(EncodedEvalArm):
    """Some tiles beside the overview.

    `choice` is "question" (as `encode` does), "random", "blind", or "above 0.6": `encode="auto"` with that threshold.
    """

    choice: str = field(default="question", kw_only=True)

    @property
    def label(self) -> str:
        """Unique: it names the choice."""
        return self.name

    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """The result of `prune_inputs`."""
        with self.change():
            short = prune_inputs(
                batch.loaded.model, batch.inputs, keep=self.budget, method=self.method, **vars(self.encoder)
            )
        kept = list_kept(short.report, len(batch.sizes))
        return short, [*kept], [len(indices) for indices in kept]

    def answer(self, batch: EvalBatch) -> EvalAnswers:
        """Encode some tiles, select and answer."""
        with self.change():
            return super().answer(batch)

    @contextmanager
    def change(self) -> Iterator[None]:
        """Choose tiles by `choice`."""
        above = float(self.choice.removeprefix(ABOVE)) if self.choice.startswith(ABOVE) else SALIENT
        with (
            mock.patch.object(tiles, "choose_tiles", self._choose),
            mock.patch.object(choosing, "SALIENT", above),
        ):
            yield

    def _choose(self, method: Method, overview: VisualTokens, regions: Sequence[Tensor], count: int) -> list[int]:
        if self.choice == "random":
            seed = int.from_bytes(hashlib.sha256(overview.embeds.float().numpy().tobytes()).digest()[:4], "big")
            order = torch.randperm(len(regions), generator=torch.Generator().manual_seed(seed)).tolist()
        else:
            order = rank_tiles(method if self.choice == "question" else Foveate(focus=0.0), overview, regions)
        return sorted(order[:count])


@dataclass(frozen=True)
class SmallerPageEvalArm(EvalArm):
    """The page resized to about as few tiles, pruned to the number of tokens that `keep` leaves of the whole page."""

    method: Method = field(kw_only=True)
    encode: float = field(kw_only=True)

    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """`prune_inputs` on the smaller pages."""
        small = batch.process([shrink(image, self.encode) for image in batch.images])
        share = min(1.0, self.budget * sum(batch.sizes) / sum(batch.count_tokens(small)))
        short = prune_inputs(batch.loaded.model, small, keep=share, method=self.method)
        kept = list_kept(short.report, len(batch.sizes))
        return short, [*kept], [len(indices) for indices in kept]


def shrink(image: Image.Image, share: float) -> Image.Image:
    """The page with the largest side of which at most this share of the tiles, the overview counted, is left.

    A page has a tile for every two cells of a side, and a small one is a single tile.
    """
    limit = share * _count_tiles(image.width)
    side = max((side for side in SIDES if _count_tiles(side) <= limit), default=SIDES[0] // 2)
    return image.resize((side, side), Image.Resampling.BICUBIC)


def _count_tiles(side: int) -> int:
    return (CELLS_OF_SIDE[side] // 2) ** 2 + 1


def make_arms(
    methods: Sequence[str], shares: Sequence[float], choices: Sequence[str], thresholds: Sequence[float]
) -> list[EvalArm]:
    """The arms, those with all tiles first."""
    arms: list[EvalArm] = [UnprunedEvalArm("unpruned", None)]
    for name in methods:
        method = resolve(name)
        arms.append(PrunedEvalArm(f"{name}, all tiles", KEEP, method=method))
        ways = [(EncoderOptions(share), f"{share}, {choice}", choice) for share in shares for choice in choices]
        ways += [(EncoderOptions("auto"), f"auto above {value}", f"{ABOVE}{value}") for value in thresholds]
        for encoder, label, choice in ways:
            arms.append(TilesEvalArm(f"{name}, {label}", KEEP, method=method, encoder=encoder, choice=choice))
    arms += [SmallerPageEvalArm(f"resize {share}", KEEP, method=resolve(methods[0]), encode=share) for share in shares]
    return arms


@torch.no_grad()
def time_arms(loaded: LoadedModel, arms: Sequence[EvalArm], examples: Sequence[EvalExample]) -> dict[str, float]:
    """The mean time to the first token of each arm, as a share of that of the first one, page by page in turn.

    The times are processor time of this process, from the processor's output on.
    """
    ratios: dict[str, list[float]] = {arm.label: [] for arm in arms}
    for example in examples:
        spent = {}
        for arm in arms:
            batch = EvalBatch(loaded, [example], [])
            if not isinstance(arm, SmallerPageEvalArm):
                _ = batch.inputs
            started = time.process_time()
            inputs = batch.inputs if isinstance(arm, UnprunedEvalArm) else arm.inputs(batch)[0]
            loaded.model(**inputs, logits_to_keep=1)
            spent[arm.label] = time.process_time() - started
        for label, seconds in spent.items():
            ratios[label].append(seconds / spent[arms[0].label])
    return {label: round(mean(values), 4) for label, values in ratios.items()}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled-tiles", help="or a folder that training.train_tiled made")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--side", type=int, default=1344)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--timed", type=int, default=6, help="pages whose times are taken")
    parser.add_argument("--tasks", default=",".join(PAGE_TASKS))
    parser.add_argument("--methods", default="foveate,glance")
    parser.add_argument("--choices", default=",".join(CHOICES))
    parser.add_argument("--shares", default="0.4,0.25")
    parser.add_argument("--salient", default=str(SALIENT), help='thresholds of encode="auto"')
    parser.add_argument("--answers", type=Path, default=Path("runs/pages"))
    parser.add_argument("--out", type=Path, help="default: results/pages-SIDE.json")
    options = parser.parse_args()
    with quiet():
        loaded = load(options.model, dtype=torch.float32)
    shares = [float(share) for share in options.shares.split(",")]
    thresholds = [float(value) for value in options.salient.split(",")]
    arms = make_arms(options.methods.split(","), shares, options.choices.split(","), thresholds)
    settings: dict[str, Any] = {
        name: value for name, value in vars(options).items() if name not in ("answers", "limit", "out", "timed")
    }
    tasks = options.tasks.split(",")
    by_task = [sample_examples([task], options.split, options.limit, options.seed, options.side) for task in tasks]
    examples = [example for turn in zip(*by_task, strict=True) for example in turn]  # a part of a run tells something
    times = time_arms(loaded, arms, examples[: options.timed])
    rows = evaluate(loaded, examples, arms, batch=1, out=options.answers, settings=settings)
    table: dict[str, dict[str, object]] = {}
    whole = {row["id"]: row["right"] for row in rows if row["arm"] == arms[1].label}
    for arm in arms:
        own = [row for row in rows if row["arm"] == arm.label]
        table[arm.label] = {"time": times.get(arm.label)}
        gains, encoded = {}, {}
        for task in ("all", *tasks):
            of_task = [row for row in own if task in ("all", row["task"])]
            table[arm.label][task] = score([row["right"] for row in of_task])
            gains[task] = score([row["right"] - whole[row["id"]] for row in of_task])
            encoded[task] = round(mean(row.get(ENCODED, 1.0) for row in of_task), 3)
        table[arm.label] |= {"gain": gains, "encoded": encoded}
    out = options.out or RESULTS / f"pages-{options.side}.json"
    out.write_text(json.dumps({**settings, "questions": len(examples), "arms": table}, indent=1) + "\n")
    for label, scores in table.items():
        print(label, json.dumps(scores))


if __name__ == "__main__":
    main()
