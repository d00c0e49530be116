"""Train the bundled model from nothing: `python -m foveate.world.train --out runs/world`.

Three stages, each resumable (the run goes on where it stopped when the command is given again):

1. *see*: the vision encoder learns what each patch shows (shape, colour, letter, centre).
2. *talk*: the encoder is frozen; projector and language model learn to caption and to answer, while a cosine
   cross-entropy pulls each projected patch onto the word embeddings of what it shows. Captions ("red top star
   d left, circle ...") are what teaches to look up one word by another: from questions alone that takes far longer.
3. *drill*: the same, with more of the questions that take longest to learn (relations, counts).

Then the model is saved in half precision with its tokenizer and processor.

Several questions and captions share one picture: each sees the picture and itself only, at the positions it would have
alone, so that every one of them is a single-question prompt.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutputWithPooling

from foveate.rewrite import IGNORED_LABEL
from foveate.world.build import build_model, build_processor, build_tokenizer
from foveate.world.data import Plan, Stage, Steps
from foveate.world.scenes import COLORS, LETTERS, SHAPES

ATTRIBUTES = {"shape": SHAPES, "color": tuple(COLORS), "letter": tuple(LETTERS.lower())}


class Seeing(nn.Module):
    """The vision encoder with one linear head an attribute."""

    def __init__(self, model: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.tower = model.model.vision_tower
        width: int = self.tower.config.hidden_size
        sizes = {name: len(values) + 1 for name, values in ATTRIBUTES.items()} | {"middle": 2, "place": 2}
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """The loss, and each head's share of object patches that it has right (`place`: its error, in sides)."""
        with torch.autocast(batch["pixels"].device.type, torch.bfloat16):
            hidden = self.tower(batch["pixels"]).last_hidden_state[:, 1:]
        hidden, figures, losses = hidden.float(), {}, []
        on = batch["shape"] > 0
        for name, weight in (("shape", 1.0), ("color", 1.0), ("letter", 1.5), ("middle", 2.0)):
            logits, target = self.heads[name](hidden), batch[name]
            each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
            # Objects cover a tenth of the picture: weigh their patches up against the ground.
            losses.append(weight * (each[on].mean() + each[~on].mean()))
            figures[name] = (logits.argmax(-1) == target)[on].float().mean().item()
        place = F.mse_loss(self.heads["place"](hidden)[on], batch["place"][on])
        figures["place"] = place.sqrt().item()
        return torch.stack(losses).sum() + 20 * place, figures


class Talking(nn.Module):
    """The whole model with its vision encoder frozen."""

    def __init__(self, model: LlavaForConditionalGeneration, plan: Plan, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.model, self.plan = model, plan
        model.model.vision_tower.requires_grad_(False)
        words = {name: [tokenizer(f" {v}").input_ids[0] for v in values] for name, values in ATTRIBUTES.items()}
        self.words = {name: torch.tensor(ids) for name, ids in words.items()}
        _look_for_likeness(model)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """The loss, and the shares of right answers and of patches nearest to their own word."""
        with torch.autocast(batch["pixels"].device.type, torch.bfloat16):
            with torch.no_grad():
                hidden = self.model.model.vision_tower(batch["pixels"]).last_hidden_state[:, 1:]
            patches = self.model.model.multi_modal_projector(hidden)
            encoded = BaseModelOutputWithPooling(pooler_output=list(patches))  # type: ignore[arg-type]
            logits = self.model(
                **{k: batch[k] for k in ("input_ids", "position_ids", "attention_mask")},
                mm_encoder_outputs={"image": encoded}, use_cache=False,
            ).logits  # fmt: skip
        logits, target, captions = logits[:, :-1].float(), batch["labels"][:, 1:], batch["captions"][:, 1:]
        answers = (target != IGNORED_LABEL) & ~captions
        answer = F.cross_entropy(logits[answers], target[answers])
        right = (logits.argmax(-1) == target)[answers].view(-1, 2)[:, 0]  # every answer is one word and </s>
        told = (target != IGNORED_LABEL) & captions
        caption = F.cross_entropy(logits[told], target[told])
        align, nearest = self._alignment(patches.float(), batch)
        figures = {"answer": answer.item(), "right": right.float().mean().item(), "caption": caption.item()}
        return answer + caption + self.plan.align * align, figures | {"align": align.item(), "patch": nearest}

    def _alignment(self, patches: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, float]:
        """Cosine cross-entropy between an object's patches and the words for its shape, its colour, its letter."""
        table: Any = self.model.get_input_embeddings().weight
        losses, right = [], []
        for name, ids in self.words.items():
            on = batch[name] > 0
            cosine = F.normalize(patches[on], dim=-1) @ F.normalize(table[ids], dim=-1).T
            losses.append(F.cross_entropy(self.plan.sharpness * cosine, batch[name][on] - 1))
            right.append((cosine.argmax(-1) == batch[name][on] - 1).float().mean().item())
        return torch.stack(losses).sum(), sum(right) / len(right)


@torch.no_grad()
def _look_for_likeness(model: LlavaForConditionalGeneration) -> None:
    """Start every head with equal query and key weights: words then look at patches that resemble them."""
    for layer in model.model.language_model.layers:
        layer.self_attn.q_proj.weight.mul_(2)
        layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)


def run_stage(name: str, net: nn.Module, plan: Plan, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Train `net` for one stage of the plan; every `save_every` steps all of the state is on disk."""
    stage: Stage = getattr(plan, name)
    checkpoint, device = out / f"{name}.pt", "cuda" if torch.cuda.is_available() else "cpu"
    net.to(device)
    weights = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.01)
    done = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["done"]
    left = range(done, stage.steps)
    data = DataLoader(Steps(plan, stage, tokenizer), batch_size=None, sampler=left, num_workers=plan.workers)
    started, seen = time.monotonic(), done
    for step, batch in track(zip(left, data, strict=True), name, total=stage.steps, completed=done):
        for group in optimizer.param_groups:
            group["lr"] = stage.rate * _schedule(step, stage.horizon, plan.warmup)
        loss, figures = net({name: value.to(device) for name, value in batch.items()})
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        done = step + 1
        if done % 25 == 0:
            pace = (time.monotonic() - started) / (done - seen)
            _log({"step": done, "loss": loss.item(), **figures, "seconds_per_step": pace}, out / f"{name}.jsonl")
        if done % plan.save_every == 0 or done == stage.steps:
            _save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "done": done}, checkpoint)


def _log(row: dict[str, float], path: Path) -> None:
    with path.open("a") as log:
        log.write(json.dumps({name: round(value, 4) for name, value in row.items()}) + "\n")


def _schedule(step: int, horizon: int, warmup: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    return min(1.0, (step + 1) / warmup) * (0.525 + 0.475 * math.cos(math.pi * step / horizon))


def _save(state: dict[str, object], path: Path) -> None:
    """Write beside, then rename: a killed run never leaves half a checkpoint."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def train(plan: Plan, out: Path) -> Path:
    """Run all steps; returns the folder of the finished model."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    run_stage("see", Seeing(model), plan, tokenizer, out)
    talking = Talking(model, plan, tokenizer)
    run_stage("talk", talking, plan, tokenizer, out)
    run_stage("drill", talking, plan, tokenizer, out)
    folder = out / "model"
    model.half().save_pretrained(folder)
    build_processor(tokenizer).save_pretrained(folder)
    return folder


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m foveate.world.train", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/world"), help="where checkpoints and the model go")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(train(Plan(seed=options.seed), options.out))


if __name__ == "__main__":
    main()
