"""`foveate calibrate` and `foveate audit`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.apps import console
from foveate.apps.cli import options
from foveate.apps.cli.interrupts import says_when_interrupted
from foveate.apps.cli.loading import takes_load_options
from foveate.errors import InputError
from foveate.runtime.load_options import LoadOptions

if TYPE_CHECKING:
    from foveate.apps.calibrate.audit import Audit
    from foveate.apps.evaluate.examples import EvalExample
    from foveate.policy import Policy
    from foveate.policy.policy import Promise

DATA = 'Your questions: a file with lines of {"image": ..., "question": ...}; answers are not needed.'
Data = Annotated[Path | None, typer.Option(help=DATA, parser=options.parse_file, metavar="PATH")]
Tasks = Annotated[str, typer.Option(help="Without --data: tasks of the bundled world, as in eval.")]
Limit = Annotated[int, typer.Option(min=1, help="Questions of each task, or of --data.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed that selects the questions of the tasks.")]
Batch = Annotated[int, typer.Option(min=1, help="Questions in a batch.")]
POLICY = "The file of the policy, such as mine.policy.json."
AUDIT = "A folder for the answers. A run that was killed continues there."
ANSWERS = f"{AUDIT} By default OUT.answers."


METRIC = "What counts as a loss: an answer that changes, or a right answer that is lost (--data then needs answers)."


class MetricChoice(StrEnum):
    """The choices of `--metric`."""

    answer = "answer"
    right = "right"


@options.app.command()
@takes_load_options
@says_when_interrupted("Finished answers are kept: run the same command again to continue.")
def calibrate(
    out: Annotated[Path, typer.Option(help=POLICY, parser=options.parse_file, metavar="PATH")],
    model: options.Model = "bundled",
    data: Data = None,
    loss: Annotated[float, typer.Option(help="The promise: at most this share of the answers change.")] = 0.01,
    metric: Annotated[MetricChoice, typer.Option(help=METRIC)] = MetricChoice.answer,
    confidence: Annotated[float, typer.Option(help="How sure the promise is.")] = 0.95,
    method: options.MethodName = "foveate",
    budgets: Annotated[str, typer.Option(help="The shares to choose from, ascending, separated by commas.")] = "",
    tasks: Tasks = "plain",
    limit: Limit = 200,
    seed: Seed = 1,
    positions: options.Positions = options.PositionsChoice.original,
    max_new_tokens: options.MaxNewTokens = 8,
    batch: Batch = 16,
    folder: Annotated[Path | None, typer.Option(help=ANSWERS, parser=options.parse_file, metavar="PATH")] = None,
    *,
    loading: LoadOptions,
) -> None:
    """Find how many tokens each question needs, and promise how many answers change. Answers are not needed.

    All answers are greedy: with sampling, the same question may have another answer without any pruning.
    """
    from foveate.apps.budgets import parse_keep
    from foveate.apps.calibrate import calibrate as run
    from foveate.apps.evaluate.settings import parse_method
    from foveate.apps.results import open_folder
    from foveate.runtime.load import load, quiet
    from foveate.runtime.warnings import collect_warnings

    shares = [float(parse_keep(part, "--budgets")) for part in budgets.split(",")] if budgets else list(run.BUDGETS)
    selector = parse_method(method)
    examples = _read_examples(data, tasks, limit, seed, "dev", metric.value)
    run.check_promise(loss, confidence, len(examples), shares)
    folder = folder or out.with_name(f"{out.name}.answers")
    decisive = {
        **_describe_run(model, data, tasks, limit, seed, loading), "method": method, "budgets": shares,
        "positions": positions.value, "max_new_tokens": max_new_tokens, "batch": batch,
    }  # fmt: skip
    with open_folder(folder):
        pass
    with quiet(), collect_warnings() as notes:
        policy = run.calibrate(
            load(model, **vars(loading)), examples, method=selector, loss=loss, confidence=confidence, budgets=shares,
            positions=positions.value, max_new_tokens=max_new_tokens, batch=batch, out=folder, settings=decisive,
            metric=metric.value,
        )  # fmt: skip
    policy.save(out)
    console.print_notes(console.limit_notes(notes))
    _print_policy(policy, out, len(examples))


@options.app.command()
@takes_load_options
@says_when_interrupted("Finished answers are in {folder}: run the same command again to continue.")
def audit(
    policy: Annotated[Path, typer.Option(help="The file of the policy.", parser=options.parse_file, metavar="PATH")],
    model: options.Model = "bundled",
    data: Data = None,
    tasks: Tasks = "plain",
    limit: Limit = 100,
    seed: Seed = 2,
    max_new_tokens: options.MaxNewTokens = 8,
    batch: Batch = 16,
    retry: Annotated[bool, typer.Option("--retry", help="Answer unsure questions again with all tokens.")] = False,
    folder: Annotated[Path, typer.Option(help=AUDIT, parser=options.parse_file, metavar="PATH")] = Path("audit"),
    as_json: options.Json = False,
    *,
    loading: LoadOptions,
) -> None:
    """Check the promise of a policy on other questions, and find the kinds of question that break it.

    Without --data the questions are of the test split. All answers are greedy, as those of the calibration.
    """
    from foveate.apps.calibrate import audit as run
    from foveate.apps.evaluate.settings import parse_method
    from foveate.apps.results import open_folder
    from foveate.policy import Policy
    from foveate.runtime.load import load, quiet
    from foveate.runtime.warnings import collect_warnings

    chosen = Policy.load(policy)
    if retry and chosen.retry is None:
        raise InputError(f"{policy} has no retry: leave --retry out, or calibrate again.")
    chosen = chosen.with_retry() if retry else chosen
    examples = _read_examples(data, tasks, limit, seed, "test", chosen.metric)
    decisive = {
        **_describe_run(model, data, tasks, limit, seed, loading), "policy": chosen.to_record(), "retry": retry,
        "max_new_tokens": max_new_tokens, "batch": batch,
    }  # fmt: skip
    with open_folder(folder):
        pass
    with quiet(), collect_warnings() as notes:
        result = run.audit(
            load(model, **vars(loading)), examples, chosen, parse_method(chosen.method), max_new_tokens=max_new_tokens,
            batch=batch, out=folder, settings=decisive,
        )  # fmt: skip
    console.print_notes(console.limit_notes(notes))
    _print_audit(result, as_json)


def _read_examples(
    data: Path | None, tasks: str, limit: int, seed: int, split: str, metric: str
) -> Sequence[EvalExample]:
    from foveate.apps.evaluate.data import read_data
    from foveate.apps.evaluate.examples import sample_examples

    if data is None:
        return sample_examples(tasks.split(","), split, limit, seed)
    examples, skipped = read_data(data, limit, needs_answers=metric == "right")
    if examples[0].modality == "media":
        raise InputError(f"{data} has questions about clips, and policies are for images: leave those lines out.")
    console.print_notes(skipped)
    return examples


def _describe_run(
    model: str, data: Path | None, tasks: str, limit: int, seed: int, loading: LoadOptions
) -> dict[str, Any]:
    """What decides the answers."""
    from foveate.apps.evaluate.data import hash_data
    from foveate.apps.results import read_commit, read_versions

    return {
        "model": model, "data": data and str(data), "data_sha256": data and hash_data(data), "tasks": tasks,
        "limit": limit, "seed": seed, "loading": loading.to_record(), "versions": read_versions(),
        "commit": read_commit(),
    }  # fmt: skip


def _print_policy(policy: Policy, out: Path, questions: int) -> None:
    promise = policy.promise
    print(
        f"{out}: at most {100 * promise.loss:.3g} % of the {_name_loss(policy)}, with {100 * promise.confidence:.3g} % "
        f"confidence, on questions like these {questions}.\nOn the half that tested it {_describe(promise)}."
    )
    if policy.retry is not None:
        print(f"With --retry {_describe(policy.retry.promise)}, both tries counted.")


def _name_loss(policy: Policy) -> str:
    return "questions lose a right answer" if policy.metric == "right" else "answers change"


def _describe(promise: Promise) -> str:
    from foveate.policy.policy import format_percent

    return f"{format_percent(promise.expected_loss)} did, at {100 * promise.expected_keep:.3g} % of the tokens"


def _print_audit(result: Audit, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("questions", "changed", "of", "rate, between", "tokens", title=result.policy.method)
    if result.policy.retries:
        table.add_column("answered again")
    for row in (*result.kinds, result.every):
        again = [str(row.retried)] if result.policy.retries else []
        rate = f"{100 * row.low:.2f} and {100 * row.high:.2f} %"
        table.add_row(row.kind, str(row.changed), str(row.questions), rate, f"{100 * row.keep:.1f} %", *again)
    screen = Console(highlight=False)
    screen.print(table)
    screen.print(result.verdict)
    if as_json:
        print(json.dumps(result.to_record()))
