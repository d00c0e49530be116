"""Does a policy keep its promise, and what does it save? Calibration and test are drawn again, 200 times.

Reads the answers and scores that `foveate calibrate` left in a folder (`--folder`), and writes
results/policies/NAME.json: for each promise the realised loss and the tokens of a policy, of the best fixed budget
with the same promise, and of E-AdaPrune's rule (arXiv 2603.05950: as many tokens as the rank that holds a share of the
spectral energy) with a threshold that is calibrated in the same way.

    foveate calibrate --model bundled-qwen --tasks all --limit 300 --out bundled-qwen.policy.json
    python benchmarks/policies.py bundled-qwen --folder bundled-qwen.policy.json.answers
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.policy.fit import CalibrationCase, CalibrationSettings, count_outcome, fit_policy
from foveate.policy.risk import choose_cheapest
from foveate.policy.signature import Signature

RESULTS = Path(__file__).parent / "results" / "policies"
PROMISES = (0.005, 0.01, 0.02, 0.05)
CONFIDENCE = 0.95
SHARE = 0.6  # of the questions calibrate, the others test


def read_cases(folder: Path) -> tuple[list[CalibrationCase], list[str], tuple[float, ...]]:
    """The cases of a calibration, their tasks and the budgets."""
    budgets = tuple(json.loads((folder / "run.json").read_text())["budgets"])
    answers: dict[tuple[str, float | None], str] = {}
    for line in (folder / "answers.jsonl").read_text().splitlines():
        row = json.loads(line)
        answers[row["id"], row["keep"]] = row["answer"]
    cases, tasks = [], []
    for line in (folder / "scores.jsonl").read_text().splitlines():
        row = json.loads(line)
        changed = tuple(answers[row["id"], budget] != answers[row["id"], None] for budget in budgets)
        cases.append(CalibrationCase(row["scores"], tuple(row["topic"]), changed))
        tasks.append(row["task"])
    return cases, tasks, budgets


def choose_rank_budgets(cases: Sequence[CalibrationCase], budgets: Sequence[float], factor: float) -> list[int]:
    """The smallest budget that is not below `factor` times the energy rank, for each case; len(budgets) keeps all."""
    return [int(np.searchsorted(budgets, factor * case.scores["energy rank"])) for case in cases]


def count_choice(
    cases: Sequence[CalibrationCase], budgets: Sequence[float], chosen: Sequence[int]
) -> tuple[int, float]:
    """How many answers change, and the mean share of kept tokens."""
    changed = [n < len(budgets) and case.changed[n] for case, n in zip(cases, chosen, strict=True)]
    return sum(changed), float(np.mean([(*budgets, 1.0)[n] for n in chosen]))


def run_split(
    cases: Sequence[CalibrationCase], budgets: tuple[float, ...], promise: float, seed: int
) -> dict[str, dict[str, float]]:
    """One draw: what each rule loses and keeps on the test part."""
    order = np.random.default_rng(seed).permutation(len(cases))
    cut = int(SHARE * len(cases))
    known, test = ([cases[i] for i in part] for part in (order[:cut], order[cut:]))
    settings = CalibrationSettings(Signature("", 0, ()), "foveate", "original", budgets, promise, CONFIDENCE)
    outcomes = {"policy": count_outcome(fit_policy(known, settings, seed), test)}
    fixed = range(len(budgets), -1, -1)
    losses = [count_choice(known, budgets, [n] * len(known))[0] for n in fixed]
    best = choose_cheapest(losses, len(known), promise, CONFIDENCE)
    outcomes["fixed budget"] = count_choice(test, budgets, [fixed[best or 0]] * len(test))
    factors = np.geomspace(20, 0.05, 61)
    losses = [count_choice(known, budgets, choose_rank_budgets(known, budgets, factor))[0] for factor in factors]
    best = choose_cheapest(losses, len(known), promise, CONFIDENCE)
    outcomes["E-AdaPrune"] = count_choice(test, budgets, choose_rank_budgets(test, budgets, factors[best or 0]))
    return {name: {"loss": lost / len(test), "keep": keep} for name, (lost, keep) in outcomes.items()}


def measure(folder: Path, splits: int) -> dict[str, Any]:
    """The table of one model."""
    cases, _, budgets = read_cases(folder)
    record: dict[str, Any] = {"questions": len(cases), "splits": splits, "budgets": budgets, "promises": {}}
    for promise in PROMISES:
        draws = [run_split(cases, budgets, promise, seed) for seed in range(splits)]
        record["promises"][str(promise)] = {
            name: {
                "loss": float(np.mean([draw[name]["loss"] for draw in draws])),
                "keep": float(np.mean([draw[name]["keep"] for draw in draws])),
                "keep_low": float(np.quantile([draw[name]["keep"] for draw in draws], 0.025)),
                "keep_high": float(np.quantile([draw[name]["keep"] for draw in draws], 0.975)),
                "kept_the_promise": float(np.mean([draw[name]["loss"] <= promise for draw in draws])),
            }
            for name in draws[0]
        }
        print(promise, json.dumps(record["promises"][str(promise)]), flush=True)
    return record


def main() -> None:
    """Write the JSON of one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    record = measure(options.folder, options.splits)
    (RESULTS / f"{options.name}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
