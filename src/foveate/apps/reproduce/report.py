"""The report: our scores beside the published ones, with the difference and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from foveate.apps.reproduce.arms import UNPRUNED
from foveate.apps.reproduce.published import PublishedScore
from foveate.apps.reproduce.run import Record

HEADS = ("", "keep", "ours, %", "published, %", "difference", "of unpruned: ours", "published", "source")
LEGEND = (
    "In brackets: 95 % bootstrap intervals over questions. A difference is ours less the published number, in points; "
    "its interval is that of ours, as the published number is taken as it is printed. *: the interval leaves zero out. "
    "Of unpruned: the score as a share of the unpruned model's, of ours and of the same paper's."
)


@dataclass(frozen=True)
class ReproducedScore:
    """Our score in percent, with its interval (None where the metric has none), and a published one (None: there is
    none). `difference` has `low` and `high` too. `share` and `published_share` are relative to the unpruned model.
    """

    benchmark: str
    metric: str
    method: str
    keep: int | float | None
    questions: int
    value: float
    low: float | None
    high: float | None
    share: float | None
    published: PublishedScore | None
    published_share: float | None

    @property
    def difference(self) -> tuple[float, float | None, float | None] | None:
        """Ours less the published number, in points, and its interval."""
        if self.published is None:
            return None
        base = self.published.value
        low, high = (None if each is None else each - base for each in (self.low, self.high))
        return self.value - base, low, high

    @property
    def agrees(self) -> bool | None:
        """Whether the interval holds the published number; None without either."""
        if self.published is None or self.low is None or self.high is None:
            return None
        return self.low <= self.published.value <= self.high

    def to_record(self) -> dict[str, Any]:
        """The score for JSON."""
        return {**asdict(self), "difference": self.difference, "agrees": self.agrees}


def compare(records: Sequence[Record], published: Sequence[PublishedScore], model: str) -> list[ReproducedScore]:
    """A row for each published number that is of the model, and one for each of our scores that has none.

    The latter has the metric that is published of this benchmark for any arm, or the benchmark's first one.
    """
    own = [score for score in published if score.model == model]
    whole = {record["benchmark"]: record["metrics"] for record in records if record["method"] == UNPRUNED}
    rows = []
    for record in records:
        benchmark, metrics = record["benchmark"], record["metrics"]
        cell = (benchmark, record["method"], record["keep"])
        of_benchmark = [each for each in published if each.benchmark == benchmark and each.metric in metrics]
        beside: list[PublishedScore | None] = [
            each for each in own if (each.benchmark, each.method, each.keep) == cell and each.metric in metrics
        ]
        for other in beside or [None] * bool(metrics):
            metric = other.metric if other else next((each.metric for each in of_benchmark), next(iter(metrics)))
            value, low, high = (_to_percent(metrics[metric][name]) for name in ("value", "low", "high"))
            assert value is not None
            base = _to_percent(whole[benchmark][metric]["value"])
            rows.append(
                ReproducedScore(
                    benchmark, metric, record["method"], record["keep"], record["questions"], value, low, high,
                    value / base if base else None, other, _compute_share(other, own),
                )
            )  # fmt: skip
    order = list(whole)
    return sorted(rows, key=lambda row: (order.index(row.benchmark), row.metric))


def _to_percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _compute_share(score: PublishedScore | None, published: Sequence[PublishedScore]) -> float | None:
    """A published number relative to the unpruned model's of the same paper; None where that is not printed."""
    if score is None:
        return None
    cell = (score.paper, score.benchmark, score.metric, UNPRUNED)
    return next((score.value / each.value for each in published if _to_cell(each) == cell and each.value), None)


def _to_cell(score: PublishedScore) -> tuple[str, str, str, str]:
    return score.paper, score.benchmark, score.metric, score.method


def list_notes(rows: Sequence[ReproducedScore], model: str, limit: int | None) -> list[str]:
    """What a reader has to know before the tables."""
    notes = []
    if not any(row.published for row in rows):
        notes.append(
            f"There are no published numbers for {model} on these benchmarks and budgets: the tables show ours alone. "
            "--published FILE adds numbers, --published-model NAME takes those of another model."
        )
    if limit is not None:
        notes.append(f"Only the first {limit} questions of each benchmark: published numbers are of all questions.")
    return notes


def to_markdown(rows: Sequence[ReproducedScore], about: Mapping[str, Any]) -> str:
    """The run, a table for each benchmark, and the sources."""
    origins = list(dict.fromkeys(row.published.origin for row in rows if row.published))
    versions = ", ".join(f"{name} {version}" for name, version in about["settings"]["versions"].items())
    lines = [f"# {about['settings']['model']} on {', '.join(about['benchmarks'])}", "", f"    {about['command']}", ""]
    lines += [f"{versions}; commit {about['settings']['commit'] or 'unknown'}.", ""]
    lines += [line for note in about["notes"] for line in (f"Note: {note}", "")]
    for (benchmark, metric), group in groupby(rows, key=lambda row: (row.benchmark, row.metric)):
        lines += _format_table(benchmark, metric, list(group), origins)
    lines += [LEGEND, ""]
    if origins:
        lines += ["Sources of the published numbers, and how they were measured:", ""]
        lines += [f"{i}. {paper}, {table}, {url}: {how}." for i, (paper, table, url, how) in enumerate(origins, 1)]
    return "\n".join(lines).rstrip() + "\n"


def _format_table(
    benchmark: str, metric: str, rows: Sequence[ReproducedScore], origins: Sequence[tuple[str, str, str, str]]
) -> list[str]:
    lines = [f"## {benchmark}: {metric}, {rows[0].questions} questions", ""]
    lines += [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    for row in rows:
        keep = "" if row.keep is None else str(row.keep)
        cells = [row.method, keep, _format_score(row.value, row.low, row.high)]
        if row.published is not None and row.difference is not None:
            star = "*" if row.agrees is False else ""
            source = f"[{origins.index(row.published.origin) + 1}]"
            shares = [_format_share(row.share), _format_share(row.published_share)]
            cells += [f"{row.published.value:.2f}", _format_score(*row.difference, sign="+") + star, *shares, source]
        else:
            cells += ["", "", _format_share(row.share), "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    compared = [row.agrees for row in rows if row.agrees is not None]
    if compared:
        lines += ["", f"{sum(compared)} of {len(compared)} published numbers lie in the interval of ours."]
    return [*lines, ""]


def _format_score(value: float, low: float | None, high: float | None, sign: str = "") -> str:
    spread = "" if low is None or high is None else f" ({low:{sign}.2f} to {high:{sign}.2f})"
    return f"{value:{sign}.2f}{spread}"


def _format_share(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
