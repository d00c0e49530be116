"""Our scores beside published ones; all numbers here are made up."""

import pytest

from foveate.apps.reproduce.published import PublishedScore
from foveate.apps.reproduce.report import compare, list_notes, to_markdown

ABOUT = {
    "command": "foveate reproduce", "benchmarks": ["pope", "gqa"], "notes": ["a note"],
    "settings": {"model": "mine", "versions": {"python": "3"}, "commit": None},
}  # fmt: skip


def make_record(method, keep, benchmark, **metrics):
    scores = {name: dict(zip(("value", "low", "high"), values, strict=True)) for name, values in metrics.items()}
    return {"method": method, "keep": keep, "benchmark": benchmark, "questions": 100, "metrics": scores}


def publish(method, keep, benchmark, metric, value, *, model="mine", paper="one"):
    return PublishedScore(
        paper, f"https://example.org/{paper}", "Table 1", "made up", model, benchmark, method, keep, metric, value
    )


RECORDS = [
    make_record("unpruned", None, "pope", accuracy=(0.9, 0.85, 0.95), f1=(0.8, 0.7, 0.9)),
    make_record("unpruned", None, "gqa", exact=(0.6, 0.5, 0.7)),
    make_record("grid", 64, "pope", accuracy=(0.7, 0.6, 0.8), f1=(0.6, None, None)),
    make_record("grid", 64, "gqa", exact=(0.45, 0.4, 0.5)),
]
PUBLISHED = [
    publish("unpruned", None, "pope", "f1", 80.0), publish("grid", 64, "pope", "f1", 62.0),
    publish("grid", 64, "gqa", "exact", 55.0), publish("grid", 64, "gqa", "exact", 41.5, paper="two"),
    publish("unpruned", None, "gqa", "exact", 50.0, paper="two"), publish("grid", 32, "gqa", "exact", 1.0),
    publish("grid", 64, "gqa", "exact", 2.0, model="another"), publish("unpruned", None, "gqa", "unknown", 3.0),
]  # fmt: skip


def test_differences_and_their_intervals():
    rows = compare(RECORDS, PUBLISHED, "mine")
    cells = [(row.benchmark, row.metric, row.method, row.published and row.published.value) for row in rows]
    assert cells == [
        ("pope", "f1", "unpruned", 80.0), ("pope", "f1", "grid", 62.0),
        ("gqa", "exact", "unpruned", 50.0), ("gqa", "exact", "grid", 55.0), ("gqa", "exact", "grid", 41.5),
    ]  # fmt: skip
    whole, no_spread, _, below, inside = rows
    assert whole.difference == pytest.approx((0.0, -10.0, 10.0))
    assert no_spread.difference[0] == pytest.approx(-2.0)
    assert (no_spread.difference[1:], no_spread.agrees) == ((None, None), None)
    assert below.difference == pytest.approx((-10.0, -15.0, -5.0))
    assert inside.difference == pytest.approx((3.5, -1.5, 8.5))
    assert [row.agrees for row in (whole, below, inside)] == [True, False, True]


def test_shares_of_the_unpruned_model_are_of_the_same_paper():
    *_, first, second = compare(RECORDS, PUBLISHED, "mine")
    assert (first.share, first.published_share) == (pytest.approx(0.75), None)
    assert (second.share, second.published_share) == (pytest.approx(0.75), pytest.approx(41.5 / 50))


def test_a_model_without_published_numbers():
    rows = compare(RECORDS, PUBLISHED, "unknown")
    assert [(row.benchmark, row.metric, row.method) for row in rows] == [
        ("pope", "f1", "unpruned"), ("pope", "f1", "grid"), ("gqa", "exact", "unpruned"), ("gqa", "exact", "grid"),
    ]  # fmt: skip
    assert all(row.published is None is row.difference is row.agrees for row in rows)
    (note,) = list_notes(rows, "unknown", None)
    assert note.startswith("There are no published numbers for unknown on these benchmarks and budgets")
    text = to_markdown(rows, ABOUT)
    assert "| grid | 64 | 45.00 (40.00 to 50.00) |  |  | 75.0% |  |  |" in text
    assert "Sources" not in text
    assert "in the interval of ours" not in text
    assert list_notes(compare(RECORDS, PUBLISHED, "mine"), "mine", 9) == [
        "Only the first 9 questions of each benchmark: published numbers are of all questions."
    ]


def test_markdown():
    lines = to_markdown(compare(RECORDS, PUBLISHED, "mine"), ABOUT).splitlines()
    assert lines[0] == "# mine on pope, gqa"
    assert "Note: a note" in lines
    assert "## gqa: exact, 100 questions" in lines
    assert "| grid | 64 | 60.00 | 62.00 | -2.00 | 75.0% | 77.5% | [1] |" in lines
    assert "| grid | 64 | 45.00 (40.00 to 50.00) | 55.00 | -10.00 (-15.00 to -5.00)* | 75.0% |  | [1] |" in lines
    assert "| grid | 64 | 45.00 (40.00 to 50.00) | 41.50 | +3.50 (-1.50 to +8.50) | 75.0% | 83.0% | [2] |" in lines
    assert "2 of 3 published numbers lie in the interval of ours." in lines
    assert lines[-2:] == [
        "1. one, Table 1, https://example.org/one: made up.", "2. two, Table 1, https://example.org/two: made up.",
    ]  # fmt: skip


def test_an_unpruned_model_that_is_always_wrong():
    records = [
        make_record("unpruned", None, "gqa", exact=(0.0, 0.0, 0.0)),
        make_record("grid", 1, "gqa", exact=(1, 1, 1)),
    ]
    assert [row.share for row in compare(records, [], "mine")] == [None, None]
