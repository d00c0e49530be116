"""What the command line reads and prints: values of options, tables for people, records for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from foveate.apps.budgets import describe_budget
from foveate.apps.encoder import EncoderOptions, list_shares
from foveate.errors import InputError

if TYPE_CHECKING:
    from foveate.apps.ask import Comparison, FirstTokenTiming
    from foveate.apps.ask_folder import FileAnswer
    from foveate.apps.batch.run import BatchOutcome
    from foveate.pipeline.settings import Keep


MAX_NOTES = 12  # of a command that answers many questions


def parse_object(option: str, text: str) -> dict[str, Any]:
    """A JSON object. Raises `InputError` for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{option} {text!r} is no JSON object: write it as '{{\"name\": value}}'.")
    return value


def print_comparison(comparison: Comparison) -> None:
    """Print the answers, their time and memory, and the notes; a column for each budget and method."""
    console, arms = Console(highlight=False), (comparison, *comparison.others)
    total, timings = comparison.report.total_count, [*(arm.pruned for arm in arms), comparison.unpruned]
    counts = [f"{arm.report.kept_count} of {total}" for arm in arms]
    names = [f"{arm.report.method}, {count}" for arm, count in zip(arms, counts, strict=True)]
    table = Table("", *(names if comparison.others else ["pruned"]), "unpruned", title=f"{names[0]} visual tokens")
    if comparison.others:
        table.title = None
    table.add_row("answer", *(to_text(arm.answer) for arm in arms), to_text(comparison.answer_unpruned))
    kept = [f"{arm.report.kept_count}, then {total}" if arm.retried else str(arm.report.kept_count) for arm in arms]
    table.add_row("visual tokens", *kept, str(total))
    parts = [arm.report.tile_counts for arm in arms]
    every = next((part[1] for part in parts if part is not None), None)
    if every is not None:
        table.add_row("parts encoded", *(str(every if part is None else part[0]) for part in parts), str(every))
    for name, measure in MEASURES:
        table.add_row(name, *map(measure, timings))
    if all(timing.peak_bytes is not None for timing in timings):
        table.add_row("peak memory", *(format_mib(timing.peak_bytes or 0) for timing in timings))
    console.print(table)
    console.print(describe_rounds(comparison.rounds))
    for arm in arms:
        for item in arm.report.items:
            if item.reason:
                console.print(Text(f"Budget: {len(item.kept)} of {item.total} visual tokens. {item.reason}"))
    if any(arm.retried for arm in arms):
        console.print("Unsure of the answer's first token, the model answered again with all visual tokens.")
        console.print("Time counts both tries.")
    for note in comparison.notes:
        console.print(Text(f"Note: {note}"))


def print_file_answer(row: FileAnswer) -> None:
    """Print a line with the file's name, a tab and the answer; on standard error where there is none."""
    name = to_line(row.name)
    if row.problem is not None:
        print(f"foveate: {row.problem if row.name in row.problem else f'{name}: {row.problem}'}", file=sys.stderr)
    else:
        print(name, to_line(row.answer or ""), sep="\t", flush=True)


def print_outcome(outcome: BatchOutcome) -> None:
    """Print the notes of `foveate batch`, and one line about its rows."""
    for note in outcome.notes:
        print(f"Note: {note}")
    before = f", {outcome.earlier} of them before this call" if outcome.earlier else ""
    aside = f"{outcome.bad} set aside with the reason (bad-*.jsonl)" if outcome.bad else "none set aside"
    print(
        f"{outcome.answered} rows answered, {aside}{before}: {outcome.speed:.1f} rows/s, {outcome.seconds:.0f} s. "
        f"The answers are in {outcome.out}."
    )


def limit_notes(notes: Sequence[str]) -> list[str]:
    """The first notes, and how many there are beside them: some differ from image to image in a number only."""
    more = len(notes) - MAX_NOTES
    return [*notes[:MAX_NOTES], *([f"{more} more notes like these were left out."] if more > 0 else [])]


def print_notes(notes: Sequence[str]) -> None:
    """Print notes on standard error."""
    for note in notes:
        print(f"Note: {note}", file=sys.stderr)


def print_rows(title: str, rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Print a table with one column for each key, or the rows as JSON."""
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(*(name.replace("_", " ") for name in rows[0]), title=title)  # words wrap, and are not cut off
    for row in rows:
        table.add_row(*(Text(format_cell(value)) for value in row.values()))
    Console(highlight=False).print(table)


def to_record(
    comparison: Comparison, *, keep: Keep, encoder: EncoderOptions, model: str, overlay: Path | None
) -> dict[str, Any]:
    """Return what `foveate ask --json` prints.

    `encoded` is the share of the image that went through the encoder for the pruned answer.
    `seconds` and `kv_bytes` (and `peak_bytes`, None without a CUDA device) hold "pruned" and "unpruned"; a time splits
    into first_token = encode + select + prefill, in the middle one of `rounds`; `range` holds the fastest and the
    slowest first_token. `others` are the budgets and methods of --compare.
    """
    timings = {"pruned": comparison.pruned, "unpruned": comparison.unpruned}
    parts = ("first_token", "encode", "select", "prefill")
    return {
        "answer": comparison.answer,
        "answer_unpruned": comparison.answer_unpruned,
        "kept": comparison.report.kept_count,
        "total": comparison.report.total_count,
        "keep": describe_budget(keep),
        **vars(encoder),
        "encoded": list_shares(comparison.report.items),
        "method": comparison.report.method,
        "model": model,
        "seconds": {name: {part: getattr(timing, part) for part in parts} for name, timing in timings.items()},
        "kv_bytes": {name: timing.kv_bytes for name, timing in timings.items()},
        "peak_bytes": {name: timing.peak_bytes for name, timing in timings.items()},
        "overlay": None if overlay is None else str(overlay),
        "retried": comparison.retried,
        "reasons": [item.reason for item in comparison.report.items if item.reason],
        "notes": list(comparison.notes),
        "rounds": comparison.rounds,
        "range": {name: [timing.fastest, timing.slowest] for name, timing in timings.items()},
        "others": [
            {
                "method": each.report.method, "kept": each.report.kept_count, "answer": each.answer,
                "seconds": {part: getattr(each.pruned, part) for part in parts}, "kv_bytes": each.pruned.kv_bytes,
            }
            for each in comparison.others
        ],
    }  # fmt: skip


def to_folder_record(
    rows: Sequence[FileAnswer], *, keep: Keep, encoder: EncoderOptions, method: str, model: str, notes: Sequence[str]
) -> dict[str, Any]:
    """Return what `foveate ask FOLDER --json` prints; `problem` is why there is no answer."""
    keys = ("name", "answer", "kept", "total", "retried", "problem")
    return {
        "model": model, "keep": describe_budget(keep), "method": method, **vars(encoder),
        "images": [{key: getattr(row, key) for key in keys} for row in rows],
        "notes": list(notes),
    }  # fmt: skip


def format_ms(seconds: float) -> str:
    """Milliseconds for people."""
    return f"{1000 * seconds:.1f} ms"


def describe_rounds(rounds: int) -> str:
    """Which of the rounds the times are of."""
    if rounds == 1:
        return "Times are those of one round."
    return f"Times are those of the middle one of {rounds} rounds; in brackets the fastest and the slowest."


def format_range(timing: FirstTokenTiming) -> str:
    """The time to the first token, with the fastest and the slowest round."""
    ends = "" if timing.fastest == timing.slowest else f" ({1000 * timing.fastest:.1f} to {1000 * timing.slowest:.1f})"
    return format_ms(timing.first_token) + ends


def format_mib(count: int) -> str:
    """Bytes as mebibytes for people."""
    return f"{count / 2**20:.2f} MiB"


def format_cell(value: Any) -> str:
    """A table's value for people."""
    return ", ".join(value) if isinstance(value, tuple) else {True: "yes", False: "no"}.get(value, str(value))


def to_text(answer: str) -> Text:
    """An answer without markup or control characters, as a model may write anything."""
    return Text("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in answer))


def to_line(answer: str) -> str:
    """An answer in one line, without control characters."""
    return " ".join(to_text(answer).plain.split())


MEASURES: tuple[tuple[str, Callable[[FirstTokenTiming], str]], ...] = (
    ("time to first token", format_range),
    ("  vision encoder", lambda timing: format_ms(timing.encode)),
    ("  selection", lambda timing: format_ms(timing.select)),
    ("  prefill", lambda timing: format_ms(timing.prefill)),
    ("KV cache", lambda timing: format_mib(timing.kv_bytes)),
)
