"""Train the bundled model from nothing: `python -m foveate.world.train --out runs/world`.

Three steps, each resumable (the run goes on where it stopped when the command is given again):

1. *see*: the vision encoder learns what each patch shows (shape, colour, letter, centre).
2. *talk*: the encoder is frozen; projector and language model learn to caption and to answer, while a cosine
   cross-entropy pulls each projected patch onto the word embeddings of what it shows. Captions ("red top star
   d left, circle ...") are what teaches to look up one word by another: from questions alone that takes far longer.
3. the model is saved in half precision with its tokenizer and processor.

Several questions and captions share one picture: each sees the picture and itself only, at the positions it would have
alone, so that every one of them is a single-question prompt.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutputWithPooling

from foveate.world.build import GRID, build_model, build_processor, build_tokenizer
from foveate.world.labels import patch_labels
from foveate.world.questions import Question, caption, sample_questions
from foveate.world.scenes import COLORS, LETTERS, SHAPES, draw_scene, sample_scene

TRAIN_STREAM = 1  # scene streams: training and held-out data never meet
# The kinds that take longest to learn come more often.
DIET = (
    "existence",
    "color",
    "shape",
    "relation",
    "relation",
    "relation",
    "count",
    "count",
    "count",
    "reading",
    "reading",
)
ATTRIBUTES = {"shape": SHAPES, "color": tuple(COLORS), "letter": tuple(LETTERS.lower())}
IGNORED = -100


@dataclass(frozen=True)
class Plan:
    """Hyper-parameters of the run."""

    see_steps: int = 1300
    see_batch: int = 32
    talk_steps: int = 6200
    talk_batch: int = 8
    questions: int = 11
    captions: int = 3
    rate: float = 1e-3
    warmup: int = 100
    align: float = 0.5
    sharpness: float = 10.0
    seed: int = 0
    workers: int = 1
    save_every: int = 200


class Steps(Dataset[dict[str, Tensor]]):
    """Item `i` is the whole batch of step `i`, so that a resumed run sees the very data it would have seen."""

    def __init__(self, plan: Plan, stage: str, tokenizer: PreTrainedTokenizerFast, count: int) -> None:
        self.plan, self.stage, self.tokenizer, self.count = plan, stage, tokenizer, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        size = self.plan.see_batch if self.stage == "see" else self.plan.talk_batch
        offset = 0 if self.stage == "see" else 10_000_000
        scenes = [sample_scene(2 * self.plan.seed + TRAIN_STREAM, offset + step * size + i) for i in range(size)]
        pixels = np.stack([np.asarray(draw_scene(s), dtype=np.float32) for s in scenes])
        labels = [patch_labels(s, GRID) for s in scenes]
        batch = {"pixels": torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1}
        for name in ("shape", "color", "letter", "middle", "place"):
            batch[name] = torch.from_numpy(np.stack([getattr(label, name) for label in labels]))
        if self.stage == "talk":
            rng = random.Random(f"foveate questions {self.plan.seed} {step}")
            asked = [
                sample_questions(s, DIET, self.plan.questions, rng)
                + [caption(s, rng) for _ in range(self.plan.captions)]
                for s in scenes
            ]
            batch |= pack(asked, self.tokenizer)
        return batch


def pack(asked: list[list[Question]], tokenizer: PreTrainedTokenizerFast) -> dict[str, Tensor]:
    """One row a picture: the prefix with the image, then every question with its answer.

    Returns input_ids, position_ids, labels (b, L), captions (b, L), which marks the labels of captions, and the
    attention mask (b, 1, L, L), True = may look.
    """
    head = tokenizer(f"USER: {'<image>' * GRID**2}\n").input_ids
    rows = []
    for questions in asked:
        ids, positions, block = list(head), list(range(len(head))), [0] * len(head)
        labels, captions = [IGNORED] * len(head), [False] * len(head)
        for number, question in enumerate(questions, start=1):
            prompt = tokenizer(f"{question.text} ASSISTANT:").input_ids
            reply = tokenizer(f" {question.answer}</s>").input_ids
            length = len(prompt) + len(reply)
            ids += prompt + reply
            positions += range(len(head), len(head) + length)
            block += [number] * length
            labels += [IGNORED] * len(prompt) + reply
            captions += [question.kind == "caption"] * length
        rows.append((ids, positions, labels, captions, block))
    width = max(len(row[0]) for row in rows)
    fills = (tokenizer.pad_token_id, 0, IGNORED, False, -1)
    padded = [torch.tensor([row[i] + [fill] * (width - len(row[i])) for row in rows]) for i, fill in enumerate(fills)]
    blocks = padded.pop()
    seen = (blocks[:, None, :] == 0) | (blocks[:, None, :] == blocks[:, :, None])
    mask = seen & torch.ones(width, width, dtype=torch.bool).tril()
    names = ("input_ids", "position_ids", "labels", "captions")
    return dict(zip(names, padded, strict=True)) | {"attention_mask": mask[:, None]}


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
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.tower(batch["pixels"]).last_hidden_state[:, 1:]
        hidden, figures, loss = hidden.float(), {}, torch.zeros(())
        on = batch["shape"] > 0
        for name, weight in (("shape", 1.0), ("color", 1.0), ("letter", 1.5), ("middle", 2.0)):
            logits, target = self.heads[name](hidden), batch[name]
            each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
            # Objects cover a tenth of the picture: weigh their patches up against the ground.
            loss = loss + weight * (each[on].mean() + each[~on].mean())
            figures[name] = (logits.argmax(-1) == target)[on].float().mean().item()
        place = F.mse_loss(self.heads["place"](hidden)[on], batch["place"][on])
        figures["place"] = place.sqrt().item()
        return loss + 20 * place, figures


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
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                hidden = self.model.model.vision_tower(batch["pixels"]).last_hidden_state[:, 1:]
            patches = self.model.model.multi_modal_projector(hidden)
            encoded = BaseModelOutputWithPooling(pooler_output=list(patches))  # type: ignore[arg-type]
            logits = self.model(
                **{k: batch[k] for k in ("input_ids", "position_ids", "attention_mask")},
                mm_encoder_outputs={"image": encoded}, use_cache=False,
            ).logits  # fmt: skip
        logits, target, captions = logits[:, :-1].float(), batch["labels"][:, 1:], batch["captions"][:, 1:]
        answers = (target != IGNORED) & ~captions
        answer = F.cross_entropy(logits[answers], target[answers])
        right = (logits.argmax(-1) == target)[answers].view(-1, 2)[:, 0]  # every answer is one word and </s>
        told = (target != IGNORED) & captions
        caption = F.cross_entropy(logits[told], target[told])
        align, nearest = self._alignment(patches.float(), batch)
        figures = {"answer": answer.item(), "right": right.float().mean().item(), "caption": caption.item()}
        return answer + caption + self.plan.align * align, figures | {"align": align.item(), "patch": nearest}

    def _alignment(self, patches: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, float]:
        """Cosine cross-entropy between an object's patches and the words for its shape, its colour, its letter."""
        table: Any = self.model.get_input_embeddings().weight
        loss, right = torch.zeros(()), []
        for name, ids in self.words.items():
            on = batch[name] > 0
            cosine = F.normalize(patches[on], dim=-1) @ F.normalize(table[ids], dim=-1).T
            loss = loss + F.cross_entropy(self.plan.sharpness * cosine, batch[name][on] - 1)
            right.append((cosine.argmax(-1) == batch[name][on] - 1).float().mean().item())
        return loss, sum(right) / len(right)


@torch.no_grad()
def _look_for_likeness(model: LlavaForConditionalGeneration) -> None:
    """Start every head with equal query and key weights: words then look at patches that resemble them.

    With independent weights the loss stays for thousands of steps where attention is about uniform over the picture.
    """
    for layer in model.model.language_model.layers:
        layer.self_attn.q_proj.weight.mul_(2)
        layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)


def run_stage(
    stage: str, net: nn.Module, steps: int, plan: Plan, tokenizer: PreTrainedTokenizerFast, out: Path
) -> None:
    """Train `net` for `steps` steps; every `save_every` steps all of the state is on disk."""
    checkpoint = out / f"{stage}.pt"
    weights = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01)
    done = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["done"]
    data = DataLoader(
        Steps(plan, stage, tokenizer, steps), batch_size=None, sampler=range(done, steps), num_workers=plan.workers
    )
    started, seen = time.monotonic(), done
    for step, batch in track(zip(range(done, steps), data, strict=True), stage, total=steps, completed=done):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * _schedule(step, steps, plan.warmup)
        loss, figures = net(batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        done = step + 1
        if done % 25 == 0:
            pace = (time.monotonic() - started) / (done - seen)
            _log({"step": done, "loss": loss.item(), **figures, "seconds_per_step": pace}, out / f"{stage}.jsonl")
        if done % plan.save_every == 0 or done == steps:
            _save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "done": done}, checkpoint)


def _log(row: dict[str, float], path: Path) -> None:
    with path.open("a") as log:
        log.write(json.dumps({name: round(value, 4) for name, value in row.items()}) + "\n")


def _schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    return min(1.0, (step + 1) / warmup) * (0.525 + 0.475 * math.cos(math.pi * step / steps))


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
    run_stage("see", Seeing(model), plan.see_steps, plan, tokenizer, out)
    run_stage("talk", Talking(model, plan, tokenizer), plan.talk_steps, plan, tokenizer, out)
    folder = out / "model"
    model.half().save_pretrained(folder)
    build_processor(tokenizer).save_pretrained(folder)
    return folder


def main() -> None:
    """Command line: every field of `Plan` is an option."""
    parser = argparse.ArgumentParser(prog="python -m foveate.world.train", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/world"))
    for name, value in vars(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args())
    out = options.pop("out")
    print(train(Plan(**options), out))


if __name__ == "__main__":
    main()
