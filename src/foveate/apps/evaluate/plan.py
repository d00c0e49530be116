"""What an evaluation asks and compares: the options of `foveate eval`, and a run of them from Python."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from foveate.apps.budgets import describe_budget
from foveate.apps.encoder import parse_encoders
from foveate.apps.evaluate import settings
from foveate.apps.evaluate.answers import Row
from foveate.apps.evaluate.arms import EvalArm
from foveate.apps.evaluate.data import MAX_FRAMES, hash_data, read_data
from foveate.apps.evaluate.examples import EvalExample, frame_questions, sample_examples
from foveate.apps.evaluate.metrics import check_references, choose_metric
from foveate.apps.evaluate.report import EvalSummary, summarize
from foveate.apps.evaluate.runner import evaluate
from foveate.apps.results import RUN, read_commit, read_versions
from foveate.errors import InputError
from foveate.pipeline.settings import Per, Positions
from foveate.runtime.load_options import LoadOptions
from foveate.runtime.loaded import LoadedModel

LISTS = ("methods", "keep", "encode", "skip", "tasks")
"""Options with commas, to which an extended run adds."""
EXTENDABLE = (*LISTS, "limit", "policies", "data_sha256")
"""What may differ between a run and its extension; rows are compared with their questions one by one."""


@dataclass(frozen=True)
class EvalRun:
    """The rows of a run, one for each arm and question, its figures, and what was skipped of the data."""

    rows: list[Row]
    summary: EvalSummary
    skipped: Sequence[str] = ()


@dataclass(frozen=True)
class EvalPlan:
    """What decides the answers of a run; the fields are the options of `foveate eval`.

    Example:
        loaded = foveate.load("bundled")
        run = EvalPlan(methods="foveate", keep="0.1", tasks="attribute", limit=20).run(loaded)
        run.summary.arms[0].accuracy, run.rows[0]["answer"]
    """

    methods: str = "foveate,zspaprune,cdpruner,divprune,mmtok"
    keep: str = "0.333,0.222,0.111,0.056"
    encode: str = "1.0"
    skip: str | None = None
    tasks: str = "all"
    data: Path | None = None
    limit: int = 200
    split: str = "dev"
    seed: int = 0
    batch: int = 16
    positions: Positions = "original"
    per: Per = "image"
    max_new_tokens: int = 8
    resize: bool = True
    metric: str = "exact"
    tolerance: float | None = None
    prompt_prefix: str = ""
    prompt_suffix: str = ""
    max_frames: int = MAX_FRAMES

    @classmethod
    def extending(cls, out: Path, **more: Any) -> EvalPlan:
        """The plan of the run in `out` with more: lists with commas are joined, and the higher limit counts.

        Raises `InputError` if there is no run.
        """
        try:
            known = json.loads((out / RUN).read_text(encoding="utf-8"))
            own = {each.name: known[each.name] for each in fields(cls)}
            own["data"] = None if own["data"] is None else Path(own["data"])
            joined = {name: _join(own[name], more[name]) for name in LISTS if name in more}
            limit = max(own["limit"], more.get("limit", 0))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{out} holds no run to extend: leave out --extend, or name the folder of one.") from error
        return cls(**{**own, **more, **joined, "limit": limit})

    def list_examples(self) -> tuple[list[EvalExample], list[str]]:
        """The questions, and a sentence for each line of the data that was skipped. Raises `InputError`."""
        if self.data is None:
            examples, skipped = sample_examples(self.tasks.split(","), self.split, self.limit, self.seed), list[str]()
        else:
            examples, skipped = read_data(self.data, self.limit, max_frames=self.max_frames)
        check_references(self.metric, [len(example.answers) for example in examples])
        return frame_questions(examples, self.prompt_prefix, self.prompt_suffix), skipped

    def make_arms(self, modality: str) -> list[EvalArm]:
        """The arms that answer them. Raises a `FoveateError`."""
        budgets, policies = settings.parse_budgets(self.keep)
        return settings.make_arms(
            settings.parse_methods(self.methods), budgets, policies=policies,
            encoders=parse_encoders(self.encode, self.skip), modality=modality, positions=self.positions,
            max_new_tokens=self.max_new_tokens, resize=self.resize, per=self.per,
        )  # fmt: skip

    def check(self) -> None:
        """Raise a `FoveateError` for what is wrong without a look at the model."""
        choose_metric(self.metric, self.tolerance)
        examples, _ = self.list_examples()
        self.make_arms(examples[0].modality)

    def describe(self, model: str, loading: LoadOptions) -> dict[str, Any]:
        """Everything that decides an answer, for the record of the run."""
        _, policies = settings.parse_budgets(self.keep)
        about = {**vars(self), "data": None if self.data is None else str(self.data)}
        return {
            "model": model, **about,
            "policies": {name: describe_budget(policy) for name, policy in policies.items()},
            "data_sha256": None if self.data is None else hash_data(self.data),
            "loading": loading.to_record(), "versions": read_versions(), "commit": read_commit(),
        }  # fmt: skip

    def run(
        self, loaded: LoadedModel, *, out: Path | None = None, extend: bool = False, loading: LoadOptions | None = None
    ) -> EvalRun:
        """Answer every question with every arm. `out` keeps the rows; `extend` lets the plan have more than they.

        Raises a `FoveateError` before the first question if the plan does not fit the model or the folder.
        """
        metric, (examples, skipped) = choose_metric(self.metric, self.tolerance), self.list_examples()
        rows = evaluate(
            loaded, examples, self.make_arms(examples[0].modality), batch=self.batch, out=out, metric=metric,
            settings=self.describe(loaded.name, loading or LoadOptions()), extends=EXTENDABLE if extend else (),
        )  # fmt: skip
        return EvalRun(rows, summarize(rows), skipped)


def _join(known: str | None, more: str | None) -> str | None:
    """The parts of both lists, each once; commas within brackets do not separate."""
    texts = [part.strip() for text in (known, more) if text for part in re.split(r",(?![^(]*\))", text)]
    return ",".join(dict.fromkeys(texts)) if texts else None
