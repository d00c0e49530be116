"""Train a bundled model from nothing: `python -m training.train --model llava --out runs/world`.

The stages are LLaVA's. The same command, given again, resumes a run that stopped.

1. *see*: the vision encoder learns what each patch shows (form, colour, glyph, the distance to the object's centre)
   and, in its [CLS] or mean, what the image holds.
2. *read*: connector and language model learn to caption and to answer from symbols: an embedding of each patch's
   labels takes the place of its features. No vision encoder runs, and most empty patches are left out.
3. *align*: vision encoder and language model are frozen; the connector between them learns.
4. *talk*: connector and language model learn to caption and to answer.
5. *zoom*: the vision encoder goes on with scenes that hold much more.
6. *crowd*: connector and language model learn to find things in them. `--start` begins at 5 with a finished model.

The last two are `qwen`'s alone: `llava` did not learn them (benchmarks/LOG.md).

`llava` has a loss that no public model has: from *align* on, a cosine cross-entropy pulls each projected
patch towards the word embeddings of its labels. `qwen` learns from captions and answers alone.

Several questions and captions share one image. Each attends to the image and to itself only, at the positions that it
would have alone, so that every one of them is a single-question prompt.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from training.build import ARCHITECTURES, build_model, build_tokenizer, save_processor
from training.data import BatchDataset
from training.language import LanguageTraining, equalize_queries_and_keys
from training.loop import run_stage
from training.plans import PLANS, TrainingPlan
from training.vision import VisionPretraining, get_connector, get_tower


def train(name: str, plan: TrainingPlan, out: Path, only: str | None = None, start: Path | None = None) -> Path:
    """Run the stages of a plan, resuming where `out` has checkpoints.

    Args:
        name: The architecture, "llava" or "qwen".
        plan: The stages.
        out: Folder for checkpoints, logs and the finished model.
        only: "see" or "read" to run that stage alone; the two do not depend on each other.
        start: Folder of a model that went through *talk*: the stages behind it start from its weights.

    Returns:
        The folder of the finished model, or `out` with `only`.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    tokenizer = build_tokenizer(ARCHITECTURES[name].chat)
    model = build_model(name, tokenizer)
    equalize_queries_and_keys(model)

    def make_data(stage: str, content: str) -> BatchDataset:
        return BatchDataset(name, getattr(plan, stage), tokenizer, content, plan.seed)

    vision = VisionPretraining(model)
    language = LanguageTraining(model, tokenizer, plan.likeness, plan.sharpness)
    if start is not None:
        model.load_state_dict(type(model).from_pretrained(start, dtype=torch.float32).state_dict())
    else:
        if only in (None, "see"):
            run_stage("see", vision, plan.see, make_data("see", "images"), plan, out)
        if only in (None, "read"):
            language.unfreeze(connector=True, language=True)
            run_stage("read", language, plan.read, make_data("read", "symbols"), plan, out)
        if only in ("see", "read"):
            return out
        _load_both(model, language, out)
        language.unfreeze(connector=True, language=False)
        run_stage("align", language, plan.align, make_data("align", "both"), plan, out)
        language.unfreeze(connector=True, language=True)
        run_stage("talk", language, plan.talk, make_data("talk", "both"), plan, out)
    if plan.zoom and plan.crowd:
        vision.tower.requires_grad_(True)
        get_connector(model).requires_grad_(False)
        run_stage("zoom", vision, plan.zoom, make_data("zoom", "images"), plan, out)
        language.unfreeze(connector=True, language=True)
        run_stage("crowd", language, plan.crowd, make_data("crowd", "both"), plan, out)
    return save_model(name, model, tokenizer, out / "model")


def _load_both(model: Any, language: LanguageTraining, out: Path) -> None:
    """Load the language model of stage *read* and the vision encoder of stage *see*."""
    language.load_state_dict(torch.load(out / "read.pt", weights_only=True)["net"])
    see = torch.load(out / "see.pt", weights_only=True)["net"]
    get_tower(model).load_state_dict({k.removeprefix("tower."): v for k, v in see.items() if k.startswith("tower.")})


def save_model(name: str, model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    """Save the model in half precision, with tokenizer and processor."""
    model.model.language_model.config._attn_implementation = "sdpa"
    model.half().save_pretrained(folder)
    save_processor(name, tokenizer, folder)
    return folder


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=tuple(ARCHITECTURES), default="llava")
    parser.add_argument("--out", type=Path, default=Path("runs/world"), help="folder for checkpoints and the model")
    parser.add_argument("--stage", choices=("see", "read"), help="run this stage only; the two may run side by side")
    parser.add_argument("--start", type=Path, help="folder of a model that went through talk: only zoom and crowd run")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    plan = replace(PLANS[options.model], seed=options.seed)
    print(train(options.model, plan, options.out / options.model, options.stage, options.start))


if __name__ == "__main__":
    main()
