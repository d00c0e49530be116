"""Does a policy keep its promise, and what does it save? Calibration and test are drawn again, 200 times.

Reads the answers that `foveate calibrate` left in a folder (`--folder`), and writes
results/policies/NAME.json. For each promise: the realised loss and the tokens of a policy, of the policy with a retry
(the tokens of both tries counted), of the best fixed budget with the same promise, and of E-AdaPrune's rule (arXiv
2603.05950: as many tokens as the rank that holds 95 % of the spectral energy) times a factor that is calibrated in the
same way. For the figure: tokens against loss of every task, on the half of the questions that fitted nothing.

    foveate calibrate --model bundled-qwen --tasks all --limit 600 --out bundled-qwen.policy.json
    python benchmarks/policies.py bundled-qwen --folder bundled-qwen.policy.json.answers
    python benchmarks/policies_figure.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.apps.calibrate.calibrate import make_cases
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.examples import sample_examples
from foveate.method import resolve
from foveate.method.tokens import unit_rows
from foveate.models import family_of
from foveate.pipeline.locate import locate_items
from foveate.policy.fit import (
    PRICES,
    CalibrationCase,
    CalibrationSettings,
    PreparedCases,
    count_outcome,
    fit_risks,
    keep_promise,
)
from foveate.policy.risk import choose_cheapest
from foveate.policy.signature import Signature
from foveate.runtime.load import load

RESULTS = Path(__file__).parent / "results" / "policies"
PROMISES = (0.005, 0.01, 0.02, 0.05)
CONFIDENCE = 0.95
SHARE = 0.6  # of the questions calibrate, the others test
FACTORS = tuple(np.geomspace(50, 0.5, 61))  # of the energy rank, from the safest to the cheapest
ENERGY = 0.95  # the share of the squared singular values that the rank holds
BATCH = 20
Outcome = tuple[int, float]


@dataclass(frozen=True)
class RankedCase(CalibrationCase):
    """A case with the rank that E-AdaPrune's rule goes by."""

    rank: float = 0.0


def read_cases(folder: Path) -> tuple[list[RankedCase], list[str], tuple[float, ...]]:
    """The cases of a calibration, their tasks and the budgets."""
    budgets = tuple(json.loads((folder / "run.json").read_text())["budgets"])
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    tasks = {row["id"]: row["task"] for row in rows}  # in the order of the cases
    pairs = zip(make_cases(rows), measure_ranks(folder), strict=True)
    return [RankedCase(**vars(case), rank=rank) for case, rank in pairs], [*tasks.values()], budgets


def count_choice(cases: Sequence[RankedCase], budgets: Sequence[float], chosen: Sequence[int]) -> Outcome:
    """How many answers change, and the mean share of kept tokens; the choice `len(budgets)` keeps all."""
    changed = [n < len(budgets) and case.changed[n] for case, n in zip(cases, chosen, strict=True)]
    return sum(changed), float(np.mean([(*budgets, 1.0)[n] for n in chosen]))


@torch.no_grad()
def measure_ranks(folder: Path) -> list[float]:
    """The smallest rank that holds 95 % of the spectral energy of each image's tokens, as a share of their number."""
    done = folder / "ranks.json"
    if done.exists():
        return list(json.loads(done.read_text()))
    run = json.loads((folder / "run.json").read_text())
    loaded, method = load(run["model"]), resolve("foveate")
    examples = sample_examples(run["tasks"].split(","), "dev", run["limit"], run["seed"])
    ranks = []
    for start in range(0, len(examples), BATCH):
        batch = EvalBatch(loaded, examples[start : start + BATCH], [method])
        items, *_ = locate_items(loaded.model, family_of(loaded.model), batch.inputs, batch.encoded)
        for item in items:
            rows = unit_rows(item.embeds[item.selectable].float())
            energy = torch.linalg.eigvalsh(rows.T @ rows).flip(0).clamp(min=0)
            reached = energy.cumsum(0) / energy.sum()
            ranks.append((int((reached < ENERGY).sum()) + 1) / len(rows))
    done.write_text(json.dumps(ranks))
    return ranks


def count_rank(cases: Sequence[RankedCase], budgets: Sequence[float], factor: float) -> Outcome:
    """The outcome of the smallest budgets that are not below `factor` times the energy rank."""
    wanted = [factor * case.rank for case in cases]
    return count_choice(cases, budgets, np.searchsorted(budgets, wanted).tolist())


def count_fixed(cases: Sequence[RankedCase], budgets: Sequence[float], n: int) -> Outcome:
    """The outcome of one budget for all."""
    return count_choice(cases, budgets, [n] * len(cases))


def run_split(
    cases: Sequence[RankedCase], budgets: tuple[float, ...], seed: int
) -> dict[float, dict[str, tuple[float, float]]]:
    """One draw: what each rule loses and keeps on the test part, for each promise."""
    order = np.random.default_rng(seed).permutation(len(cases))
    cut = int(SHARE * len(cases))
    known, test = ([cases[i] for i in part] for part in (order[:cut], order[cut:]))
    settings = CalibrationSettings(Signature("", 0, ()), "foveate", "original", budgets, 0.01, CONFIDENCE)
    risks, tested = fit_risks(known, settings, seed)
    rules = {
        "fixed budget": [(count_fixed, n) for n in range(len(budgets), -1, -1)],
        "E-AdaPrune": [(count_rank, factor) for factor in FACTORS],
    }
    losses = {name: [count(known, budgets, value)[0] for count, value in steps] for name, steps in rules.items()}
    outcomes: dict[float, dict[str, tuple[float, float]]] = {}
    for promise in PROMISES:
        policy = keep_promise(risks, tested, promise, CONFIDENCE)
        counts = {"policy": count_outcome(policy, test), "with a retry": count_outcome(policy.with_retry(), test)}
        for name, steps in rules.items():
            best = choose_cheapest(losses[name], len(known), promise, CONFIDENCE)
            count, value = steps[best or 0]
            counts[name] = (0, 1.0) if best is None else count(test, budgets, value)
        outcomes[promise] = {name: (lost / len(test), keep) for name, (lost, keep) in counts.items()}
    return outcomes


def summarise(draws: Sequence[tuple[float, float]], promise: float) -> dict[str, float]:
    """Means over the draws with the range of 95 % of them, and how many of them kept the promise."""
    loss, keep = np.array(draws).T
    record = {"kept_the_promise": float(np.mean(loss <= promise))}
    for name, values in (("loss", loss), ("keep", keep)):
        low, high = np.quantile(values, [0.025, 0.975])
        record |= {name: float(values.mean()), f"{name}_low": float(low), f"{name}_high": float(high)}
    return record


def trace_curves(
    cases: Sequence[RankedCase], tasks: Sequence[str], budgets: tuple[float, ...]
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """(tokens, loss) of each task at every fixed budget and at every price, on the half that fitted nothing."""
    order = np.random.default_rng(0).permutation(len(cases))
    half = len(cases) // 2
    settings = CalibrationSettings(Signature("", 0, ()), "foveate", "original", budgets, 0.01, CONFIDENCE)
    policy, _ = fit_risks([cases[i] for i in order[:half]], settings, 0)
    rest = [(cases[i], tasks[i]) for i in order[half:]]
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for task in ("all", *dict.fromkeys(tasks)):
        group = [case for case, name in rest if task in ("all", name)]
        rows = {"fixed budget": [count_fixed(group, budgets, n) for n in range(len(budgets) + 1)]}
        for name, each in (("policy", policy), ("with a retry", policy.with_retry())):
            prepared = PreparedCases(each, group)
            rows[name] = [prepared.count_outcome(price) for price in PRICES]
        curves[task] = {name: [(keep, lost / len(group)) for lost, keep in row] for name, row in rows.items()}
    return curves


def measure(folder: Path, splits: int) -> dict[str, Any]:
    """The record of one model."""
    cases, tasks, budgets = read_cases(folder)
    draws = [run_split(cases, budgets, seed) for seed in range(splits)]
    least = [(*budgets, 1.0)[(*case.changed, False).index(False)] for case in cases]
    names = draws[0][PROMISES[0]]
    return {
        "questions": len(cases), "tasks": list(dict.fromkeys(tasks)), "splits": splits, "budgets": budgets,
        "confidence": CONFIDENCE, "least_tokens_without_a_loss": float(np.mean(least)),
        "promises": {
            str(promise): {name: summarise([draw[promise][name] for draw in draws], promise) for name in names}
            for promise in PROMISES
        },
        "curves": trace_curves(cases, tasks, budgets),
    }  # fmt: skip


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
    for promise, rules in record["promises"].items():
        for name, row in rules.items():
            kept = f"{100 * row['kept_the_promise']:.1f} % of the draws"
            print(f"{promise} {name}: loss {row['loss']:.4f}, tokens {row['keep']:.3f}, promise kept in {kept}")
    (RESULTS / f"{options.name}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
