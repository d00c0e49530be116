"""What the command line prints: tables for people, records for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from foveate.apps.ask import Comparison, Cost
    from foveate.apps.batch.run import BatchOutcome


def comparison(found: Comparison) -> None:
    """The answers, then what they cost, then what the reader should know."""
    console, report = Console(highlight=False), found.report
    share = len(report.kept[0]) / report.total[0]
    table = Table("", "pruned", "unpruned", title=f"{report.method}, {share:.0%} of the visual tokens")
    table.add_row("answer", plain(found.answer), plain(found.answer_unpruned))
    table.add_row("visual tokens", str(len(report.kept[0])), str(report.total[0]))
    for title, measure in MEASURES:
        table.add_row(title, measure(found.pruned), measure(found.unpruned))
    if found.pruned.peak_bytes is not None and found.unpruned.peak_bytes is not None:
        table.add_row("peak memory", mebibytes(found.pruned.peak_bytes), mebibytes(found.unpruned.peak_bytes))
    console.print(table)
    for note in found.notes:
        console.print(Text(f"Note: {note}"))


def outcome(found: BatchOutcome) -> None:
    """What the user should know, and a line on what became of the rows."""
    for note in found.notes:
        print(f"Note: {note}")
    before = f", {found.earlier} of them before this call" if found.earlier else ""
    aside = f"{found.bad} set aside with the reason (bad-*.jsonl)" if found.bad else "none set aside"
    print(
        f"{found.answered} rows answered, {aside}{before}: {found.speed:.1f} rows/s, {found.seconds:.0f} s. "
        f"The answers are in {found.out}."
    )


def milliseconds(seconds: float) -> str:
    """A time as people read it."""
    return f"{1000 * seconds:.1f} ms"


def mebibytes(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 2**20:.2f} MiB"


MEASURES: tuple[tuple[str, Callable[[Cost], str]], ...] = (
    ("time to first token", lambda cost: milliseconds(cost.first_token)),
    ("  vision encoder", lambda cost: milliseconds(cost.encode)),
    ("  selection", lambda cost: milliseconds(cost.select)),
    ("  prefill", lambda cost: milliseconds(cost.prefill)),
    ("KV cache", lambda cost: mebibytes(cost.kv_bytes)),
)


def plain(answer: str) -> Text:
    """A model may write anything: no markup is read, and control characters do not reach the terminal."""
    return Text("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in answer))


def record(found: Comparison, *, keep: int | float, model: str, overlay: Path | None) -> dict[str, Any]:
    """What `foveate ask --json` prints.

    `seconds` and `kv_bytes` (and `peak_bytes`, None without a CUDA device) hold "pruned" and "unpruned"; a time splits
    into first_token = encode + select + prefill.
    """
    costs = {"pruned": found.pruned, "unpruned": found.unpruned}
    parts = ("first_token", "encode", "select", "prefill")
    return {
        "answer": found.answer,
        "answer_unpruned": found.answer_unpruned,
        "kept": len(found.report.kept[0]),
        "total": found.report.total[0],
        "keep": keep,
        "method": found.report.method,
        "model": model,
        "seconds": {name: {part: getattr(cost, part) for part in parts} for name, cost in costs.items()},
        "kv_bytes": {name: cost.kv_bytes for name, cost in costs.items()},
        "peak_bytes": {name: cost.peak_bytes for name, cost in costs.items()},
        "overlay": None if overlay is None else str(overlay),
        "notes": list(found.notes),
    }


def rows(title: str, listed: Sequence[dict[str, Any]], as_json: bool) -> None:
    """A table with a column a key, or the rows as JSON."""
    if as_json:
        print(json.dumps(listed))
        return
    table = Table(*listed[0], title=title)
    for row in listed:
        table.add_row(*(Text(cell(value)) for value in row.values()))
    Console(highlight=False).print(table)


def cell(value: Any) -> str:
    """A value of a table as people read it."""
    return ", ".join(value) if isinstance(value, tuple) else {True: "yes", False: "no"}.get(value, str(value))
