"""Runs of lmms-eval's evaluator from Python: a task at a time, on one loaded model."""

from __future__ import annotations

import difflib
import json
import math
import os
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lmms_eval import tasks as lmms_tasks
from lmms_eval.evaluator import eval_logger, simple_evaluate
from lmms_eval.tasks import TaskManager
from lmms_eval.utils import handle_non_serializable, load_yaml_config

from foveate.apps.evaluate.statistics import bootstrap_interval, bootstrap_statistic
from foveate.errors import InputError
from foveate.integrations.lmms import FoveateLmms

OCR = "textvqa_ocr"
BENCHMARKS = {"textvqa": OCR}
"""lmms-eval's task of a benchmark, where it has another name than the benchmark in papers."""
LARGE = ("arguments", "input_media")  # of a sample: the images, and the prompt once more


@dataclass(frozen=True)
class LmmsScore:
    """A metric of a task and its 95 % bootstrap interval over questions; None where it cannot be resampled."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class LmmsResult:
    """What a run of a task gave: its metrics by name, and one sample for each question."""

    metrics: dict[str, LmmsScore]
    samples: list[dict[str, Any]]

    def format_samples(self) -> str:
        """The samples as lines of JSON, each with its question and scores but without the images."""
        rows = [{name: sample[name] for name in sample if name not in LARGE} for sample in self.samples]
        return "".join(json.dumps(row, default=handle_non_serializable) + "\n" for row in rows)

    def count_input_tokens(self) -> float:
        """The mean number of tokens of a prompt after pruning."""
        return float(np.mean([count["input_tokens"] for each in self.samples for count in each["token_counts"]]))


class LmmsTasks(TaskManager):
    """lmms-eval's tasks and those of some folders. A task's data set is loaded once for all runs."""

    def __init__(self, folders: Sequence[Path]) -> None:
        super().__init__(include_path=[str(folder) for folder in folders], model_name="foveate")
        self.loaded: dict[str, Any] = {}

    def load_task_or_group(self, task_list: Any = None, task_type: Any = "simple") -> dict[str, Any]:
        """Called by lmms-eval with names of tasks. Raises `InputError` if one cannot be loaded."""
        for name in task_list:
            if name not in self.loaded:
                try:
                    self.loaded |= super().load_task_or_group([name], task_type)
                except Exception as error:  # of a task's own code, or of its data after lmms-eval's own retries
                    raise InputError(
                        f"lmms-eval cannot load {name} ({error.__cause__ or error}): its data comes from the hub, "
                        "which wants a login for some (`hf auth login`)."
                    ) from error
        return {name: self.loaded[name] for name in task_list}

    def find(self, benchmark: str) -> str:
        """The name of a benchmark's task. Raises `InputError` if there is none, or more than one."""
        name = BENCHMARKS.get(benchmark, benchmark)
        if name in self.all_subtasks:
            return name
        if name in self.all_tasks:
            raise InputError(f"{name} is a group of lmms-eval's tasks: name the tasks (`lmms_eval --tasks list`).")
        near = difflib.get_close_matches(name, self.all_subtasks)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(f"lmms-eval has no task {name!r}: {hint}`lmms_eval --tasks list` lists them.")


def write_ocr_task(folder: Path) -> None:
    """Write the task `textvqa_ocr`: lmms-eval's TextVQA, with the OCR tokens in the prompt as in LLaVA's evaluation."""
    stock = Path(lmms_tasks.__file__).parent / "textvqa" / "textvqa_val.yaml"
    prompt = load_yaml_config(str(stock), mode="simple")["lmms_eval_specific_kwargs"]["default"]
    task = {"include": str(stock), "task": OCR, "lmms_eval_specific_kwargs": {"default": {**prompt, "ocr": True}}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{OCR}.yaml").write_text(json.dumps(task, indent=1) + "\n", encoding="utf-8")  # JSON is YAML


def run_task(model: FoveateLmms, tasks: LmmsTasks, task: str, *, limit: int | None = None, out: Path) -> LmmsResult:
    """Let the model answer a task through lmms-eval's evaluator.

    Args:
        model: Its settings are those of the run.
        tasks: Where the task is.
        task: Its name.
        limit: Answer only its first questions, so many.
        out: A folder for files that the task writes itself.

    Raises:
        InputError: The task cannot be loaded, scores an answer in several ways, or gives no score.
    """
    options = Namespace(output_path=str(out), process_with_media=False)
    with _quiet():
        record = simple_evaluate(
            model=model, tasks=[task], task_manager=tasks, limit=limit, bootstrap_iters=0, log_samples=True,
            cli_args=options,
        )  # fmt: skip
        samples, rules = record["samples"][task], tasks.loaded[task].aggregation()
        metrics = {
            name: _make_score(value, name, samples, rules[name])
            for name, value in _read_values(record["results"][task], rules).items()
        }
    if not metrics:
        raise InputError(f"{task} gives no score, only files for a server that has the answers: choose another task.")
    return LmmsResult(metrics, samples)


def _read_values(results: Mapping[str, Any], metrics: Collection[str]) -> dict[str, float]:
    """The metrics that are numbers, out of lmms-eval's results, whose names are "metric,filter"."""
    keys = [
        key for key, value in results.items() if isinstance(value, (int, float)) and key.partition(",")[0] in metrics
    ]
    if len({key.partition(",")[2] for key in keys}) > 1:
        raise InputError(f"{results['alias']} scores every answer in several ways: choose a task with one filter.")
    return {key.partition(",")[0]: float(results[key]) for key in keys}


def _make_score(
    value: float, metric: str, samples: Sequence[dict[str, Any]], aggregate: Callable[[list[Any]], float]
) -> LmmsScore:
    """The value with its interval; metrics that are no mean are aggregated again in every round."""
    items = [sample[metric] for sample in samples if metric in sample]
    if all(isinstance(item, (int, float)) for item in items) and math.isclose(value, np.mean(items), abs_tol=1e-9):
        return LmmsScore(value, *bootstrap_interval(np.array(items, dtype=np.float64)))
    try:
        return LmmsScore(value, *bootstrap_statistic(items, aggregate))
    except Exception:  # of a metric that needs each question once, such as one over pairs of questions
        return LmmsScore(value, None, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop lmms-eval's log, and what metrics print each time that they are computed."""
    eval_logger.disable("lmms_eval")
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            yield
    finally:
        eval_logger.enable("lmms_eval")
