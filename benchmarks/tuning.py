"""What LoRA regains of the accuracy that pruning costs: TRL and PEFT on a bundled model and fresh drawn scenes.

The adapter is on all linear layers, those of the vision tower too. Every step draws a budget, and encodes each image
once for its questions and captions. A run trains with one seed, evaluates on "dev" or "test" and writes
results/tuning/<model>-seed<n>-<split>.json; the same command goes on with a run that stopped. Without --seed the model
is evaluated as it is. `benchmarks/tuning_figure.py` makes the table and the figure of all runs.

    OMP_NUM_THREADS=1 python -m benchmarks.tuning --model bundled --split test
    OMP_NUM_THREADS=1 python -m benchmarks.tuning --model bundled --split test --seed 0
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AttentionInterface
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTConfig, SFTTrainer

import foveate
import foveate.tuning
from foveate.apps.evaluate.arms import PrunedEvalArm, UnprunedEvalArm
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.examples import sample_examples
from foveate.apps.evaluate.metrics import match_exact
from foveate.method import resolve
from foveate.models import family_of
from foveate.pipeline.encode import Encoded
from foveate.runtime.conversation import format_question, make_inputs
from foveate.world.drawing import draw_scene
from foveate.world.questions import make_caption, sample_questions, tasks_of
from foveate.world.scenes import CHARTS, sample_scene
from training.attention import plain_attention

OUT = Path(__file__).parent / "results" / "tuning"
STREAM = 101  # of scenes; training draws from odd ones, and the bundled models were trained on the first
HELD_OUT = 900_000_000  # the first scene of the learning curve
BUDGETS = {"bundled": (16, 32, 64), "bundled-qwen": (5, 9, 19)}  # 2.8, 5.6 and 11.1 % of an image's tokens
# The tower has more to learn than the language model, which reads what the tower gathers: its rate is "tower" times.
TOWER = r".*\.(visual|vision_tower|multi_modal_projector)\..*"
DIET = ["existence", "attribute", "relation", "relation", "counting", "reading", "reading", "reading", "grounding",
        "grounding", "overview", "overview"]  # fmt: skip
# "lowest" of the budgets are the lowest and "whole" are all tokens; there, one row in "thin" is used, as it is long.
SETTINGS = {"steps": 300, "images": 8, "questions": 6, "rate": 1e-3, "rank": 32, "tower": 4, "lowest": 12, "whole": 2,
            "thin": 4, "evaluations": 3}  # fmt: skip
OWN: dict[str, dict[str, int]] = {"bundled": {}, "bundled-qwen": {"steps": 400, "whole": 3, "thin": 2}}


class Lessons:
    """Batches of fresh scenes, each with several questions, from the numbers of the scenes."""

    def __init__(self, loaded: Any, seed: int) -> None:
        self.loaded, self.seed = loaded, seed

    def collate(self, rows: Sequence[dict[str, int]]) -> dict[str, Any]:
        """The batch: a row for each question, padded on the right, with labels on the answer, and the images once."""
        images, shown, texts, lengths = [], [], [], []
        tokenizer, token = self.loaded.processor.tokenizer, self.loaded.processor.image_token
        scenes = [self._sample(row["scene"], row["questions"]) for row in rows]
        images = [draw_scene(scene) for scene, _ in scenes]
        inputs = make_inputs(self.loaded, images, ["?"] * len(images))
        sizes = family_of(self.loaded.model).placeholders(self.loaded.model.config, inputs).sum(1).tolist()
        for (_, questions), size in zip(scenes, sizes, strict=True):
            for each in questions:
                prompt = format_question(self.loaded, each.text).replace(token, token * size)
                texts.append(f"{prompt} {each.answer}{tokenizer.eos_token}")
                lengths.append(len(tokenizer(prompt).input_ids))
        batch = dict(tokenizer(texts, padding=True, padding_side="right", return_tensors="pt"))
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for row, length in enumerate(lengths):
            batch["labels"][row, :length] = -100
        if "mm_token_type_ids" in inputs:
            batch["mm_token_type_ids"] = (batch["input_ids"] == self.loaded.model.config.image_token_id).long()
        shown = {name: inputs[name] for name in ("pixel_values", "image_grid_thw") if name in inputs}
        return {name: value for name, value in batch.items() if name != "token_type_ids"} | shown

    def _sample(self, index: int, count: int) -> tuple[Any, list[Any]]:
        rng = random.Random(f"foveate tuning {self.seed} {index}")
        kind = rng.choice(CHARTS) if rng.random() < 0.2 else rng.choice(("scene", "scene", "variety"))
        scene = sample_scene(STREAM + 2 * self.seed, index, kind)
        tasks = [task for task in DIET if task in tasks_of(scene)] or tasks_of(scene)
        described = [make_caption(scene, rng) for _ in range(count // 3)]
        return scene, sample_questions(scene, tasks, count - len(described), rng) + described


class SharedTrainer(SFTTrainer):
    """SFTTrainer that encodes each image once for all of its questions, and draws a budget for every step."""

    budgets: tuple[float, ...] = ()
    thin = 1

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        """TRL's loss of the shortened inputs; evaluation has a question an image, and `attach` prunes."""
        if not model.training:
            return super().compute_loss(model, inputs, *args, **options)
        keep = random.Random(f"{self.args.seed} {self.state.global_step}").choice(self.budgets)
        images = {name: inputs.pop(name) for name in ("pixel_values", "image_grid_thw") if name in inputs}
        count = len(inputs["input_ids"]) // self.args.per_device_train_batch_size
        used = count if isinstance(keep, int) else max(1, count // self.thin)
        rows = torch.arange(len(inputs["input_ids"])).reshape(-1, count)[:, :used].flatten()
        batch = {name: value[rows] for name, value in inputs.items()}
        with torch.autocast("cpu", torch.bfloat16):
            encoded = foveate.encode(model, images)
        output = encoded.outputs["image"]
        features = [each.float() for each in output.pooler_output for _ in range(used)]
        if "image_grid_thw" in images:
            batch["image_grid_thw"] = images["image_grid_thw"].repeat_interleave(used, 0)
        encoded = Encoded({"image": replace(output, pooler_output=features)})
        short = foveate.prune_inputs(model, batch, keep=keep, encoded=encoded)
        return super().compute_loss(model, dict(short))


def train(name: str, seed: int, settings: dict[str, Any], folder: Path) -> Path:
    """Train the adapter of one run, or go on with it; the folder of the finished one."""
    done = folder / "adapter"
    if done.exists():
        return done
    AttentionInterface.register("plain", plain_attention)  # a quarter less time a step
    loaded, lowest = foveate.load(name), BUDGETS[name][0]
    tower = getattr(loaded.model.model, "vision_tower", None) or loaded.model.model.visual
    tower.config._attn_implementation = "plain"
    lessons = Lessons(loaded, seed)
    foveate.attach(loaded.model, keep=lowest)  # for the evaluations; training draws
    config = LoraConfig(
        r=settings["rank"],
        lora_alpha=settings["rank"],
        target_modules="all-linear",
        alpha_pattern={TOWER: settings["tower"] * settings["rank"]},
    )
    args = SFTConfig(
        output_dir=str(folder), seed=seed, max_steps=settings["steps"],
        per_device_train_batch_size=settings["images"], per_device_eval_batch_size=16,
        learning_rate=settings["rate"], lr_scheduler_type="cosine", warmup_steps=20, weight_decay=0.0, max_length=None,
        use_cpu=True, bf16=True, report_to=[], remove_unused_columns=False, gradient_checkpointing=False,
        save_steps=50, save_total_limit=1, logging_steps=10, disable_tqdm=True, prediction_loss_only=True,
        eval_strategy="steps", eval_steps=-(-settings["steps"] // settings["evaluations"]), eval_on_start=True,
        dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    scenes = [{"scene": i, "questions": settings["questions"]} for i in range(settings["steps"] * settings["images"])]
    held_out = [{"scene": HELD_OUT + i, "questions": 1} for i in range(64)]
    trainer = SharedTrainer(
        loaded.model, args, processing_class=loaded.processor.tokenizer, peft_config=config,
        data_collator=lessons.collate, train_dataset=Dataset.from_list(scenes),
        eval_dataset=Dataset.from_list(held_out),
    )  # fmt: skip
    trainer.thin, trainer.budgets = settings["thin"], (
        *[lowest] * settings["lowest"], *[2 * lowest] * 3, *[4 * lowest] * 2, 0.25, *[1.0] * settings["whole"],
    )  # fmt: skip
    trainer.add_callback(foveate.tuning.BudgetEvaluation(trainer, [1.0]))
    last = get_last_checkpoint(str(folder)) if folder.exists() else None
    trainer.train(resume_from_checkpoint=last)
    (folder / "log.json").write_text(json.dumps(trainer.state.log_history))
    trainer.save_model(str(done))
    return done


def evaluate(name: str, adapter: Path | None, split: str, limit: int) -> dict[str, dict[str, list[int]]]:
    """For every arm and task, which questions were answered right."""
    loaded = foveate.load(name, adapter=None if adapter is None else str(adapter))
    method = resolve("foveate")
    arms = [UnprunedEvalArm("unpruned", None), *(PrunedEvalArm("foveate", k, method=method) for k in BUDGETS[name])]
    right: dict[str, dict[str, list[int]]] = {arm.label: {} for arm in arms}
    examples = sample_examples(["plain"], split, limit)
    for start in range(0, len(examples), 25):
        batch = EvalBatch(loaded, examples[start : start + 25], [method])
        for arm in arms:
            for answer, example in zip(arm.answer(batch).answers, batch.examples, strict=True):
                right[arm.label].setdefault(example.task, []).append(int(match_exact(answer, example.answers)))
    return right


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=tuple(BUDGETS), default="bundled")
    parser.add_argument("--seed", type=int, help="of the run; none: the model as it is")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--limit", type=int, default=100, help="questions of each task")
    parser.add_argument("--work", type=Path, default=Path("runs/tuning"), help="folder for checkpoints")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the results")
    for name, value in SETTINGS.items():
        parser.add_argument(f"--{name}", type=type(value))
    options = parser.parse_args()
    torch.set_num_threads(1)
    own = {**SETTINGS, **OWN[options.model]}
    settings = {name: own[name] if value is None else value for name, value in vars(options).items() if name in own}
    run_name = f"{options.model}-" + ("untuned" if options.seed is None else f"seed{options.seed}")
    out, folder, adapter, log = options.out / f"{run_name}-{options.split}.json", options.work / run_name, None, []
    if out.exists():
        return
    started = time.process_time()
    if options.seed is not None:
        adapter = train(options.model, options.seed, settings, folder)
        log = json.loads((folder / "log.json").read_text())
    print(f"{run_name}: {time.process_time() - started:.0f} s of training", flush=True)
    right = evaluate(options.model, adapter, options.split, options.limit)
    result = {
        "model": options.model, "seed": options.seed, "split": options.split, "limit": options.limit,
        "settings": settings if adapter else None, "right": right, "log": log,
    }  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result))
    for arm, tasks in right.items():
        means = {task: round(float(np.mean(values)), 2) for task, values in tasks.items()}
        print(run_name, options.split, arm, f"{np.mean(list(means.values())):.3f}", means, flush=True)


if __name__ == "__main__":
    main()
