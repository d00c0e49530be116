"""Train a bundled model from nothing: `python -m training.train --model llava --out runs/world`.

The stages are LLaVA's, each resumable (the run goes on where it stopped when the command is given again):

1. *see*: the vision encoder learns what each patch shows (form, colour, glyph, the way to the object's centre) and, in
   its [CLS] or mean, what the picture holds.
2. *read*: connector and language model learn to caption and to answer from pictures in symbols: of every patch, what
   it shows, in an embedding of its own, so that no vision encoder runs, and little of the empty ground is read.
3. *align*: both are frozen; the connector between them learns.
4. *talk*: connector and language model learn to caption and to answer.

`llava` has one thing that no public model has: while it talks, a cosine cross-entropy pulls each projected patch onto
the word embeddings of what it shows. `qwen` learns from captions and answers alone.

Several questions and captions share one picture: each sees the picture and itself only, at the positions it would have
alone, so that every one of them is a single-question prompt.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import AttentionInterface, PreTrainedTokenizerFast

from foveate.models.sequence import IGNORED_LABEL
from foveate.world.scenes import FORMS, GLYPHS, POPULARITY
from training.attention import packed_attention, plain_attention
from training.build import ARCHITECTURES, build_model, build_processor, build_tokenizer
from training.data import MARKED, Stage, Steps
from training.labels import CLASSES, PICTURE, PLACE

ALIGNED = {"form": FORMS, "color": tuple(POPULARITY), "glyph": tuple(GLYPHS)}
INNER = ("tower", "model")  # what a net holds beside heads and symbols
MUON = 3.0  # times AdamW's rate
EVERY = {"existence": 2, "attribute": 3, "relation": 4, "counting": 2, "reading": 3, "grounding": 3, "overview": 1}
COUNTING = {"existence": 3, "attribute": 1, "relation": 3, "counting": 4, "reading": 3, "grounding": 2, "overview": 4}
"""More of what is learned last."""


@dataclass(frozen=True)
class Plan:
    """The run. `likeness` weighs the cosine loss."""

    see: Stage
    read: Stage
    align: Stage
    talk: Stage
    likeness: float
    sharpness: float = 10.0
    warmup: int = 50
    seed: int = 0
    workers: int = 1
    save_every: int = 100


VARIED = {"scene": 1, "variety": 1}
_SEE = Stage(steps=1200, batch=16, horizon=1200, rate=2e-3, stream=0, scenes={"scene": 1, "crowd": 4})
_READ = Stage(
    steps=2000, batch=16, horizon=2400, rate=2e-3, stream=10_000_000, questions=12, captions=1, drills=3, diet=EVERY,
    scenes=VARIED,
)  # fmt: skip
_TALK = Stage(
    steps=1200, batch=8, horizon=1200, rate=7e-4, stream=30_000_000, questions=16, captions=2, drills=2, diet=COUNTING,
    scenes=VARIED,
)  # fmt: skip
_ALIGN = replace(_TALK, steps=200, horizon=400, rate=2e-3, stream=20_000_000)
PLANS = {
    "llava": Plan(_SEE, _READ, _ALIGN, replace(_TALK, steps=1700, horizon=1700), likeness=0.5),
    "qwen": Plan(
        replace(_SEE, steps=1000, horizon=1200),
        replace(_READ, steps=1800, horizon=1800, diet=COUNTING),
        _ALIGN,
        replace(_TALK, steps=1500, horizon=1500),
        likeness=0.0,
    ),
}


class Seeing(nn.Module):
    """The vision encoder with one linear head an attribute."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower = tower(model)
        AttentionInterface.register("plain", plain_attention)
        self.tower.config._attn_implementation = "plain"
        width: int = self.tower.config.hidden_size
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in CLASSES.items()})
        self.place, self.picture = nn.Linear(width, PLACE), nn.Linear(width, PICTURE)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """The loss, and each head's share of labelled patches that it has right (`place`, `way`: errors, in cells)."""
        with torch.autocast(batch["pixel_values"].device.type, torch.bfloat16):
            hidden, summary = SIGHT[self.tower.config.model_type](self.tower, batch)
        hidden, summary, figures, losses = hidden.float(), summary.float(), {}, []
        for name, weight in (("form", 1.0), ("color", 1.0), ("glyph", 1.5), ("order", 1.0)):
            logits, target = self.heads[name](hidden), batch[name]
            each, on = F.cross_entropy(logits, target, reduction="none"), target > 0
            # Objects cover a tenth of the picture: weigh their patches up against the ground.
            losses.append(weight * (_mean(each[on]) + each[~on].mean()))
            figures[name] = _mean((logits.argmax(-1) == target)[on].float()).item()
        on = batch["form"] > 0
        place = (self.place(hidden)[on] - batch["place"][on]).square().mean(0)
        held = F.binary_cross_entropy_with_logits(self.picture(summary), batch["picture"])
        figures |= {"place": place[:2].mean().sqrt().item(), "way": place[2:4].mean().sqrt().item()}
        figures["picture"] = held.item()
        return torch.stack(losses).sum() + 2 * place.mean() + held, figures


def _mean(values: Tensor) -> Tensor:
    """0 where there is nothing to average."""
    return values.sum() / max(values.numel(), 1)


def tower(model: Any) -> Any:
    """The vision encoder."""
    return getattr(model.model, "vision_tower", None) or model.model.visual


def connector(model: Any) -> Any:
    """What turns its patches into visual tokens."""
    return getattr(model.model, "multi_modal_projector", None) or model.model.visual.merger


def _clip_sight(clip: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The patches (all, width) of the layer that LLaVA reads, and [CLS] (b, width)."""
    out = clip(batch["pixel_values"], output_hidden_states=True)
    return out.hidden_states[-2][:, 1:].flatten(0, 1), out.pooler_output


def _qwen_sight(visual: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The patches (all, width), out of the windows' order, and every picture's mean (b, width)."""
    from transformers.vision_utils import get_vision_window_index

    grids, config = batch["image_grid_thw"], visual.config
    hidden = visual(batch["pixel_values"], grid_thw=grids).last_hidden_state
    order, _ = get_vision_window_index(
        grids, spatial_merge_size=config.spatial_merge_size, window_size=config.window_size,
        patch_size=config.patch_size, kwargs={},
    )  # fmt: skip
    blocks = hidden.unflatten(0, (-1, config.spatial_merge_size**2))
    hidden = blocks[torch.argsort(order)].flatten(0, 1)
    return hidden, torch.stack([part.mean(0) for part in hidden.split(grids.prod(-1).tolist())])


SIGHT = {"clip_vision_model": _clip_sight, "qwen2_5_vl_vision": _qwen_sight, "qwen2_5_vl": _qwen_sight}


class Symbols(nn.Module):
    """What a perfect vision encoder would say of a patch, in embeddings of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({name: nn.Embedding(size, width) for name, size in CLASSES.items()})
        self.place = nn.Linear(PLACE, width)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """(patches, width)."""
        features: Tensor = self.place(batch["place"])
        for name, table in self.tables.items():
            features = features + table(batch[name])
        return features


class Talking(nn.Module):
    """The whole model with its vision encoder frozen; `parts` of the rest learn."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerFast, likeness: float, sharpness: float) -> None:
        super().__init__()
        AttentionInterface.register("packed", packed_attention)
        model.model.language_model.config._attn_implementation = "packed"
        self.model, self.likeness, self.sharpness = model, likeness, sharpness
        self.symbols = Symbols(tower(model).config.hidden_size)
        self.words = {
            name: torch.tensor([tokenizer(f" {v}").input_ids[0] for v in values]) for name, values in ALIGNED.items()
        }

    def learn(self, *, connects: bool, speaks: bool) -> None:
        """Freeze all but the connector, the language model (with the symbols it may learn from), or both."""
        self.model.requires_grad_(False)
        connector(self.model).requires_grad_(connects)
        for part in (self.model.model.language_model, self.model.lm_head, self.symbols):
            part.requires_grad_(speaks)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """The loss, and the share of right answers for every task."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        with torch.autocast(ids.device.type, torch.bfloat16):
            if "pixel_values" in batch:
                pictures = {k: batch[k] for k in ("pixel_values", "image_grid_thw") if k in batch}
                patches = torch.cat(list(self.model.model.get_image_features(**pictures).pooler_output))
            else:
                patches = connector(self.model)(self.symbols(batch))
            embeds = self.model.get_input_embeddings()(ids)
            spots = (ids == self.model.config.image_token_id)[..., None]
            logits = self.model(
                inputs_embeds=embeds.masked_scatter(spots, patches.to(embeds.dtype)),
                position_ids=batch["position_ids"],
                attention_mask=torch.zeros(mask.shape, dtype=torch.bfloat16, device=mask.device).masked_fill(
                    ~mask, -1e9
                ),
                use_cache=False,
                shared=int(batch["shared"]),
            ).logits
        logits, target, task = logits[:, :-1].float(), batch["labels"][:, 1:], batch["task"][:, 1:]
        said, answers = target != IGNORED_LABEL, task >= 0
        each = F.cross_entropy(logits[said], target[said], reduction="none")
        answer, caption = each[answers[said]].mean(), each[~answers[said]].mean()
        figures = {"answer": answer.item(), "caption": caption.item()}
        figures |= _marks(logits[said].argmax(-1) == target[said], task[said], batch["answer"][:, 1:][said])
        loss = answer + caption
        if self.likeness and "pixel_values" in batch:
            likeness, figures["patch"] = self._likeness(patches.float(), batch)
            loss = loss + self.likeness * likeness
        return loss, figures

    def _likeness(self, patches: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, float]:
        """Cosine cross-entropy between patches and the words for their form, their colour, their glyph."""
        table: Any = self.model.get_input_embeddings().weight
        losses, right = [], []
        for name, ids in self.words.items():
            on = batch[name] > 0
            if not bool(on.any()):
                continue
            cosine = F.normalize(patches[on], dim=-1) @ F.normalize(table[ids], dim=-1).T
            losses.append(F.cross_entropy(self.sharpness * cosine, batch[name][on] - 1))
            right.append((cosine.argmax(-1) == batch[name][on] - 1).float().mean().item())
        return torch.stack(losses).sum(), sum(right) / len(right)


def _marks(right: Tensor, task: Tensor, answer: Tensor) -> dict[str, float]:
    """The share of answers that are right to the last token, by task."""
    whole = torch.ones(int(answer.max()) + 1).scatter_reduce(0, answer.cpu(), right.float().cpu(), "amin")
    of = torch.full_like(whole, -1).scatter(0, answer.cpu(), task.float().cpu())
    return {name: whole[of == number].mean().item() for number, name in enumerate(MARKED) if bool((of == number).any())}


@torch.no_grad()
def look_for_likeness(model: Any) -> None:
    """Start every head with equal query and key weights: words then look at what resembles them."""
    for layer in model.model.language_model.layers:
        layer.self_attn.q_proj.weight.mul_(2)
        layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)


def optimizers_of(net: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices within the model, AdamW for all else that learns: embeddings, heads, norms, biases."""
    tables = {id(m.weight) for m in net.modules() if isinstance(m, nn.Embedding)}  # one may be tied to a linear layer
    inner = [m for name in INNER if hasattr(net, name) for m in getattr(net, name).modules()]
    matrices = {id(m.weight) for m in inner if isinstance(m, nn.Linear)} - tables
    learns = [p for p in net.parameters() if p.requires_grad]
    muon = torch.optim.Muon(
        [p for p in learns if id(p) in matrices], lr=MUON * rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
    )
    adam = torch.optim.AdamW(
        [p for p in learns if id(p) not in matrices], lr=rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["full"] = group["lr"]
    return [muon, adam]


def run_stage(name: str, net: nn.Module, stage: Stage, data: Steps, plan: Plan, out: Path) -> None:
    """Train `net` for one stage of the plan; every `save_every` steps all of the state is on disk."""
    checkpoint, device = out / f"{name}.pt", "cuda" if torch.cuda.is_available() else "cpu"
    net.to(device)
    weights = [p for p in net.parameters() if p.requires_grad]
    optimizers, done = optimizers_of(net, stage.rate), 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        net.load_state_dict(state["net"])
        for optimizer, stored in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        done = state["done"]
    left = range(done, stage.steps)
    batches = DataLoader(
        data, batch_size=None, sampler=left, num_workers=plan.workers, prefetch_factor=4 if plan.workers else None
    )
    started, seen = time.monotonic(), done
    sums: dict[str, list[float]] = {}
    for step, batch in track(zip(left, batches, strict=True), name, total=stage.steps, completed=done):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full"] * _schedule(step, stage.horizon, plan.warmup)
        loss, figures = net({key: value.to(device) for key, value in batch.items()})
        net.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        done = step + 1
        for key, value in {"loss": loss.item(), **figures}.items():
            sums.setdefault(key, []).append(value)
        if done % 25 == 0:
            pace = (time.monotonic() - started) / (done - seen)
            means = {key: sum(values) / len(values) for key, values in sums.items()}
            _log({"step": done, **means, "seconds_per_step": pace}, out / f"{name}.jsonl")
            sums = {}
        if done % plan.save_every == 0 or done == stage.steps:
            state = {"optimizers": [optimizer.state_dict() for optimizer in optimizers], "done": done}
            _save({"net": net.state_dict(), **state}, checkpoint)


def _log(row: dict[str, float], path: Path) -> None:
    with path.open("a") as log:
        log.write(json.dumps({name: round(value, 4) for name, value in row.items()}) + "\n")


def _schedule(step: int, horizon: int, warmup: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    return min(1.0, (step + 1) / warmup) * (0.525 + 0.475 * math.cos(math.pi * min(1.0, step / horizon)))


def _save(state: dict[str, object], path: Path) -> None:
    """Write beside, then rename: a killed run never leaves half a checkpoint."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def train(name: str, plan: Plan, out: Path, only: str | None = None) -> Path:
    """Run all stages, or `only` one whose predecessors are done; returns the folder of the finished model."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    tokenizer = build_tokenizer(ARCHITECTURES[name].chat)
    model = build_model(name, tokenizer)
    look_for_likeness(model)

    def data(stage: str, shows: str) -> Steps:
        return Steps(name, getattr(plan, stage), tokenizer, shows, plan.seed)

    if only in (None, "see"):
        run_stage("see", Seeing(model), plan.see, data("see", "pictures"), plan, out)
    talking = Talking(model, tokenizer, plan.likeness, plan.sharpness)
    if only in (None, "read"):
        talking.learn(connects=True, speaks=True)
        run_stage("read", talking, plan.read, data("read", "symbols"), plan, out)
    if only in ("see", "read"):
        return out
    _join(model, talking, out)
    talking.learn(connects=True, speaks=False)
    run_stage("align", talking, plan.align, data("align", "both"), plan, out)
    talking.learn(connects=True, speaks=True)
    run_stage("talk", talking, plan.talk, data("talk", "both"), plan, out)
    return save(name, model, tokenizer, out / "model")


def _join(model: Any, talking: Talking, out: Path) -> None:
    """The tower that learned to see and the language model that learned to read, which may have run side by side."""
    talking.load_state_dict(torch.load(out / "read.pt", weights_only=True)["net"])
    seen = torch.load(out / "see.pt", weights_only=True)["net"]
    tower(model).load_state_dict({k.removeprefix("tower."): v for k, v in seen.items() if k.startswith("tower.")})


def save(name: str, model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    """In half precision, with tokenizer and processor."""
    model.model.language_model.config._attn_implementation = "sdpa"
    model.half().save_pretrained(folder)
    build_processor(name, tokenizer, folder)
    return folder


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=tuple(ARCHITECTURES), default="llava")
    parser.add_argument("--out", type=Path, default=Path("runs/world"), help="where checkpoints and the model go")
    parser.add_argument("--stage", choices=("see", "read"), help="only this one; the two may run side by side")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(
        train(
            options.model, replace(PLANS[options.model], seed=options.seed), options.out / options.model, options.stage
        )
    )


if __name__ == "__main__":
    main()
