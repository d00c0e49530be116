"""Clips inside vLLM: unpruned, pruned by foveate's methods, and by vLLM's own EVS, in one process and one run.

`bundled-clips` answers held-out questions about drawn clips of 216 visual tokens, one request at a time, all ways in
turn, and each of them encodes the clip anew. Seconds are the processor's, of all threads, since the machine may have
other work; the ratio to the unpruned request is taken question by question. vLLM has its VidCom2 for Qwen3-VL alone,
not for this model. EVS is refused or wrong on a CPU until its runner is told that the model prunes: `start_engine` does
so. Writes results/serving/clips.json.

    .venv/engine/bin/python benchmarks/engine_clips.py [--limit 20]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foveate.apps.evaluate.examples import EvalExample, sample_examples
from foveate.apps.evaluate.metrics import match_exact
from foveate.apps.evaluate.statistics import bootstrap_interval, bootstrap_statistic
from foveate.integrations.vllm import overrides
from foveate.runtime.conversation import apply_template
from foveate.runtime.load import load, quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foveate.runtime.load import LoadedModel

OUT = Path(__file__).parent / "results" / "serving" / "clips.json"
TOTAL, KEEPS = 216, {"a third": 72, "a sixth": 36}
METHODS = ("foveate", "vidcom2", "divprune")
NEW = 8  # tokens of an answer
ENGINE = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}


@dataclass(eq=False)
class ClipArm:
    """A way to answer: an engine and the settings of a request. Measured: a row for each question."""

    name: str
    engine: Any
    settings: dict[str, Any]
    seconds: list[float] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    prompt: int = 0

    def answer(self, prompt: dict[str, Any]) -> tuple[str, float]:
        """The answer, and the seconds of the processor that it took."""
        from vllm import SamplingParams

        options = {"mm_processor_kwargs": {"foveate": self.settings}} if self.settings else {}
        self.engine.llm_engine.reset_prefix_cache()
        started = time.process_time()
        (output,) = self.engine.generate(
            {**prompt, **options}, SamplingParams(temperature=0, max_tokens=NEW), use_tqdm=False
        )
        self.prompt = len(output.prompt_token_ids)
        return output.outputs[0].text.strip(), time.process_time() - started


def save_clip_model(loaded: LoadedModel, folder: Path) -> Path:
    """Write the whole model as one checkpoint, with a video processor like its image processor."""
    import transformers as hf

    images = loaded.processor.image_processor
    names = ("patch_size", "merge_size", "image_mean", "image_std", "temporal_patch_size", "size")
    settings = {name: getattr(images, name) for name in names}
    clips = hf.Qwen2VLVideoProcessor(**{**settings, "size": dict(settings["size"])})
    processor = hf.Qwen2_5_VLProcessor(
        image_processor=images, tokenizer=loaded.processor.tokenizer, video_processor=clips,
        chat_template=loaded.processor.chat_template,
    )  # fmt: skip
    loaded.model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def start_engine(folder: Path, **options: Any) -> Any:
    """An engine that keeps nothing between requests but what a prompt's own steps need."""
    from vllm import LLM

    engine = LLM(
        str(folder), dtype="float32", enforce_eager=True, distributed_executor_backend="uni", seed=0,
        max_model_len=512, block_size=32, num_gpu_blocks_override=33, mm_processor_cache_gb=0,
        enable_prefix_caching=False, limit_mm_per_prompt={"image": 0, "video": 1}, **options,
    )  # fmt: skip
    if "video_pruning_rate" in options:  # the runner for CPUs leaves it out, and fails at the first clip
        core = engine.llm_engine.engine_core.engine_core
        core.model_executor.driver_worker.worker.model_runner.is_multimodal_pruning_enabled = True
    return engine


def make_arms(folder: Path) -> list[ClipArm]:
    """The unpruned one, then every way to keep a third and a sixth of the tokens."""
    pruning = start_engine(folder, hf_overrides=overrides(str(folder), keep=0.5, feature_cache_gib=0))
    arms = [ClipArm("unpruned", start_engine(folder), {})]
    for kept in KEEPS.values():
        arms += [ClipArm(method, pruning, {"keep": kept, "method": method}) for method in METHODS]
        evs = start_engine(folder, video_pruning_rate=1 - (kept + 0.5) / TOTAL)  # it rounds down
        arms.append(ClipArm("vLLM's EVS", evs, {}))
    return arms


def make_prompt(loaded: LoadedModel, example: EvalExample) -> dict[str, Any]:
    """A question about a clip at two frames a second, in the form that vLLM takes."""
    frames = np.stack([np.asarray(frame) for frame in example.image()])
    count = len(frames)
    times = {"fps": 2.0, "total_num_frames": count, "frames_indices": list(range(count)), "duration": count / 2}
    content = [{"type": "video"}, {"type": "text", "text": example.question}]
    text = apply_template(loaded, [{"role": "user", "content": content}])
    ids = loaded.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    return {"prompt_token_ids": ids, "multi_modal_data": {"video": [(frames, times)]}}


def measure(loaded: LoadedModel, arms: list[ClipArm], examples: Sequence[EvalExample]) -> None:
    """Ask every question in every way, in an order that turns around from one question to the next."""
    warm_up = make_prompt(loaded, examples[0])
    for arm in arms:
        arm.answer(warm_up)
    for number, example in enumerate(examples):
        prompt = make_prompt(loaded, example)
        for arm in arms[:: 1 if number % 2 else -1]:
            answer, seconds = arm.answer(prompt)
            arm.answers.append(answer)
            arm.seconds.append(seconds)


def summarize(arms: Sequence[ClipArm], examples: Sequence[EvalExample]) -> list[dict[str, Any]]:
    """One row an arm; intervals are over questions."""
    whole, rows = arms[0], []
    for arm in arms:
        ratios = [own / other for own, other in zip(arm.seconds, whole.seconds, strict=True)]
        low, high = bootstrap_statistic(ratios, lambda values: float(np.median(values)))
        same = [float(a == b) for a, b in zip(arm.answers, whole.answers, strict=True)]
        right = [float(match_exact(a, example.answers)) for a, example in zip(arm.answers, examples, strict=True)]
        rows.append(
            {
                "arm": arm.name, "kept": TOTAL - whole.prompt + arm.prompt, "prompt": arm.prompt,
                "ms": 1000 * float(np.median(arm.seconds)),
                "time": {"value": float(np.median(ratios)), "low": low, "high": high},
                "agreement": describe_mean(same), "accuracy": describe_mean(right),
            }
        )  # fmt: skip
    return rows


def describe_mean(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % interval."""
    low, high = bootstrap_interval(np.array(values))
    return {"value": float(np.mean(values)), "low": low, "high": high}


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--limit", type=int, default=20, help="questions of each task")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    os.environ.update(ENGINE)  # before vLLM is imported
    examples = sample_examples(["clips"], options.split, options.limit)
    with tempfile.TemporaryDirectory() as made, quiet():
        loaded = load("bundled-clips", dtype="float32")
        arms = make_arms(save_clip_model(loaded, Path(made)))
        measure(loaded, arms, examples)
    rows = summarize(arms, examples)
    settings = {"split": options.split, "questions": len(examples), "threads": torch.get_num_threads(), "clock": "cpu"}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({**settings, "arms": rows}, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
