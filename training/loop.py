"""Run one stage: optimizers, learning rate, log and checkpoints."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from training.plans import TrainingPlan, TrainingStage
from training.precision import orthogonalize_fast

INNER = ("tower", "model")  # attributes of a net that hold the model itself, without heads and symbols
MUON = 3.0  # Muon's rate, in multiples of AdamW's
LOG_EVERY = 25  # steps


def make_optimizers(net: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Make Muon for the model's matrices and AdamW for all else that learns: embeddings, heads, norms, biases."""
    tables = {id(m.weight) for m in net.modules() if isinstance(m, nn.Embedding)}  # may be tied to a linear layer
    inner = [m for name in INNER if hasattr(net, name) for m in getattr(net, name).modules()]
    matrices = {id(m.weight) for m in inner if isinstance(m, nn.Linear)} - tables
    learns = [p for p in net.parameters() if p.requires_grad]
    squares, others = [p for p in learns if id(p) in matrices], [p for p in learns if id(p) not in matrices]
    optimizers: list[torch.optim.Optimizer] = []
    if squares:
        optimizers.append(torch.optim.Muon(squares, lr=MUON * rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"))
    if others:
        optimizers.append(torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["full"] = group["lr"]
    return optimizers


def run_stage(
    name: str, net: nn.Module, stage: TrainingStage, data: Dataset[dict[str, Tensor]], plan: TrainingPlan, out: Path
) -> None:
    """Train `net` for one stage of the plan; a checkpoint in `out` has everything that a resumed run needs."""
    checkpoint, device = out / f"{name}.pt", "cuda" if torch.cuda.is_available() else "cpu"
    net.to(device)
    weights = [p for p in net.parameters() if p.requires_grad]
    optimizers = make_optimizers(net, stage.rate)
    done = _load_checkpoint(checkpoint, net, optimizers, device)
    steps = range(done, stage.steps)
    batches = DataLoader(
        data, batch_size=None, sampler=steps, num_workers=plan.workers, prefetch_factor=4 if plan.workers else None
    )
    log = TrainingLog(out / f"{name}.jsonl", done)
    for step, batch in track(zip(steps, batches, strict=True), name, total=stage.steps, completed=done):
        _set_rate(optimizers, _schedule(step, stage.horizon, plan.warmup))
        loss, figures = net({key: value.to(device) for key, value in batch.items()})
        net.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        with orthogonalize_fast():
            for optimizer in optimizers:
                optimizer.step()
        done = step + 1
        log.add(done, {"loss": loss.item(), **figures})
        if done % plan.save_every == 0 or done == stage.steps:
            save_checkpoint(checkpoint, net, optimizers, done)


class TrainingLog:
    """Writes the means of all figures to a file of JSON lines, a line every `LOG_EVERY` steps."""

    def __init__(self, path: Path, done: int) -> None:
        self.path, self.first, self.started = path, done, time.monotonic()
        self.sums: dict[str, list[float]] = {}

    def add(self, done: int, figures: dict[str, float]) -> None:
        """Add the figures of step number `done`, counted from 1."""
        for key, value in figures.items():
            self.sums.setdefault(key, []).append(value)
        if done % LOG_EVERY == 0:
            pace = (time.monotonic() - self.started) / (done - self.first)
            means = {key: sum(values) / len(values) for key, values in self.sums.items()}
            row = {"step": done, **means, "seconds_per_step": pace}
            with self.path.open("a") as log:
                log.write(json.dumps({name: round(value, 4) for name, value in row.items()}) + "\n")
            self.sums = {}


def _schedule(step: int, horizon: int, warmup: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    return min(1.0, (step + 1) / warmup) * (0.525 + 0.475 * math.cos(math.pi * min(1.0, step / horizon)))


def _set_rate(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["full"] * factor


def _load_checkpoint(path: Path, net: nn.Module, optimizers: list[torch.optim.Optimizer], device: str) -> int:
    """Restore net and optimizers where a checkpoint exists; return the number of steps that are done."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    net.load_state_dict(state["net"])
    for optimizer, stored in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(stored)
    return int(state["done"])


def save_checkpoint(path: Path, net: nn.Module, optimizers: list[torch.optim.Optimizer], done: int) -> None:
    """Write to another file and rename it: a killed run never leaves half a checkpoint."""
    part = path.with_suffix(".part")
    torch.save({"net": net.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "done": done}, part)
    part.replace(path)
