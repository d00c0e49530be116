"""Some windows of an image at full size: accuracy against what the encoder sees, and what the choices are worth.

Beside the whole image: smaller images of as many patches, random windows, and windows chosen without the question; what
enters the prompt (looked-at windows alone, the smaller image in the other places, that alone), and how a window is
scored. Resumes from the answers in --answers, also with a larger --limit; writes results/windows.json.

    python benchmarks/windows.py --kinds "both;windows;glance alone" --limit 40 --methods glance --shares 0.5
    python benchmarks/windows.py --kinds "random windows;blind windows" --limit 24 --methods glance --shares 0.5
        --answers runs/windows_choices --out benchmarks/results/windows_choices.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from foveate.apps.evaluate.arms import ArmInputs, EvalArm, PrunedEvalArm, UnprunedEvalArm, list_kept
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.examples import sample_examples
from foveate.apps.evaluate.resized import ResizedEvalArm
from foveate.apps.evaluate.runner import evaluate
from foveate.method import Method, resolve
from foveate.method.foveate import Foveate
from foveate.method.scoring import score_peaked_tokens
from foveate.method.tokens import VisualTokens
from foveate.pipeline import windows
from foveate.pipeline.prune import prune_inputs
from foveate.runtime.load import load, quiet
from losses import score

OUT = Path(__file__).parent / "results" / "windows.json"
TASKS = ("crowd", "search", "lookup", "gist", "overview", "counting")
KEEPS = (0.111, 1.0)
SHARES = (0.5, 0.4, 0.25)
KINDS: dict[str, dict[str, Any]] = {
    "both": {},
    "windows": {"filled": "nothing"},
    "glance alone": {"filled": "glance alone"},
    "random windows": {"scored": "random"},
    "blind windows": {"scored": "blind"},
    "mean of a window": {"scored": "mean"},
    "look at averages": {"look": None},
    "no places": {"is_placed": False},
}
"""Ways to choose windows and to fill the other places; "both" is what `encode` does."""


@dataclass(frozen=True)
class WindowsEvalArm(EvalArm):
    """Some windows, by one way to choose them and to fill the other places.

    `scored` is "max", "top" (mean of the best quarter), "mean", "blind" (the method without the question) or "random";
    `filled` is "glance", "nothing" or "glance alone"; `glance` the part of the share that the smaller image may take.
    """

    method: Method = field(kw_only=True)
    encode: float = field(kw_only=True)
    scored: str = field(default="max", kw_only=True)
    filled: str = field(default="glance", kw_only=True)
    look: float | None = field(default=windows.LOOK, kw_only=True)
    is_placed: bool = field(default=True, kw_only=True)

    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """The result of `prune_inputs`."""
        with self._change():
            short = prune_inputs(
                batch.loaded.model, batch.inputs, keep=self.budget, method=self.method, encode=self.encode
            )
        kept = list_kept(short.report, len(batch.sizes))
        return short, [*kept], [len(indices) for indices in kept]

    @contextmanager
    def _change(self) -> Iterator[None]:
        join = windows._join

        def fill(level: Sequence[Tensor], looks: Sequence[Tensor], units: Sequence[Tensor]) -> list[Tensor]:
            if self.filled == "glance alone":
                return list(looks)
            nothing = [torch.full_like(look, torch.nan) for look in looks]
            return join(level, looks if self.filled == "glance" else nothing, units)

        def subset(tokens: VisualTokens, *args: Any, of_raster: bool = False) -> VisualTokens:
            return SUBSET(tokens, *args, of_raster=of_raster and self.is_placed)

        with (
            mock.patch.object(windows, "_join", fill), mock.patch.object(windows, "rank_tiles", self._rank),
            mock.patch.object(windows, "LOOK", self.look), mock.patch.object(VisualTokens, "subset", subset),
        ):  # fmt: skip
            yield

    def _rank(self, method: Method, tokens: VisualTokens, regions: Sequence[Tensor]) -> list[int]:
        if self.scored == "random":
            seed = int.from_bytes(hashlib.sha256(tokens.embeds[0].float().numpy().tobytes()).digest()[:4], "big")
            return torch.randperm(len(regions), generator=torch.Generator().manual_seed(seed)).tolist()
        if self.scored == "blind":
            return RANK(Foveate(focus=0.0), tokens, regions)
        if self.scored == "max":
            return RANK(method, tokens, regions)
        relevance = method.relevance_map(tokens)
        relevance = score_peaked_tokens(tokens.embeds, tokens.question) if relevance is None else relevance
        parts = [relevance[region].sort(descending=True).values for region in regions]
        counts = [len(part) if self.scored == "mean" else -(-len(part) // 4) for part in parts]
        values = [float(part[:count].mean()) for part, count in zip(parts, counts, strict=True)]
        return sorted(range(len(values)), key=values.__getitem__, reverse=True)


RANK, SUBSET = windows.rank_tiles, VisualTokens.subset


@dataclass(frozen=True)
class SmallerEvalArm(ResizedEvalArm):
    """Smaller images of as many patches, pruned to what `keep` leaves of the whole ones."""

    encode: float = field(kw_only=True)
    method: Method = field(kw_only=True)

    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """`prune_inputs` on the smaller images."""
        small, _, counts = ResizedEvalArm("", self.encode).inputs(batch)
        if self.budget == 1:
            return small, [None] * len(counts), counts
        share = self.budget * sum(batch.sizes) / sum(counts)
        short = prune_inputs(batch.loaded.model, small, keep=min(1.0, share), method=self.method)
        kept = list_kept(short.report, len(batch.sizes))
        return short, [*kept], [len(indices) for indices in kept]


def make_arms(kinds: Sequence[str], names: Sequence[str], shares: Sequence[float]) -> list[EvalArm]:
    """The arms, the simple ones first."""
    methods = {name: resolve(name) for name in names}
    arms: list[EvalArm] = [UnprunedEvalArm("unpruned", None)]
    for keep in KEEPS:
        if keep != 1:
            arms += [PrunedEvalArm(f"{name}, whole", keep, method=method) for name, method in methods.items()]
        for share in shares:
            arms.append(SmallerEvalArm(f"resize {share}", keep, method=resolve("glance"), encode=share))
            for name, method in methods.items():
                own: dict[str, Any] = {"method": method, "encode": share}
                arms += [WindowsEvalArm(f"{name}, {share}, {kind}", keep, **own, **KINDS[kind]) for kind in kinds]
    return arms


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled-qwen")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--kinds", default=";".join(KINDS))
    parser.add_argument("--methods", default="glance,foveate")
    parser.add_argument("--shares", default=",".join(map(str, SHARES)))
    parser.add_argument("--answers", type=Path, default=Path("runs/windows"))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with quiet():
        loaded = load(options.model)
    shares = [float(share) for share in options.shares.split(",")]
    arms = make_arms(options.kinds.split(";"), options.methods.split(","), shares)
    settings = {name: value for name, value in vars(options).items() if name not in ("answers", "limit", "out")}
    tasks = options.tasks.split(",")
    by_task = [sample_examples([task], options.split, options.limit) for task in tasks]
    examples = [example for turn in zip(*by_task, strict=True) for example in turn]  # a part of a run tells something
    rows = evaluate(loaded, examples, arms, batch=12, out=options.answers, settings=settings)
    table: dict[str, dict[str, object]] = {}
    for arm in arms:
        own = [row for row in rows if row["arm"] == arm.label]
        for task in ("all", *tasks):
            table.setdefault(arm.label, {})[task] = score([row["right"] for row in own if task in ("all", row["task"])])
    options.out.write_text(json.dumps({**settings, "questions": len(examples), "arms": table}, indent=1) + "\n")
    for label, scores in table.items():
        print(label, json.dumps(scores))


if __name__ == "__main__":
    main()
