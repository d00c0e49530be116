"""The published numbers of the package, and those of a user's file."""

import json
from collections import Counter

import pytest

from foveate.apps.reproduce.published import read_published
from foveate.errors import InputError
from foveate.method.registry import METHODS

TABLE = {
    "paper": "made up", "source": "https://example.org", "table": "none", "protocol": "made up", "model": "bundled",
    "metrics": {"drawn": "right"}, "rows": [{"method": "unpruned", "keep": None, "drawn": 90}],
}  # fmt: skip


def write(path, *tables):
    path.write_text(json.dumps({"tables": tables}))
    return path


def test_the_numbers_of_the_package():
    scores = read_published()
    assert len(scores) >= 100
    for score in scores:
        assert score.source.startswith("https://")
        assert score.method in {"unpruned", *METHODS.names()}
        assert (score.keep is None) == (score.method == "unpruned")
        assert 0 < score.value < 100
        assert score.metric == {"pope": "pope_f1_score", "mmmu_val": "mmmu_acc"}.get(score.benchmark, "exact_match")
    cells = Counter((score.paper, score.model, score.benchmark, score.method, score.keep) for score in scores)
    assert max(cells.values()) == 1
    for score in scores:  # so that shares of the unpruned model can be compared
        assert (score.paper, score.model, score.benchmark, "unpruned", None) in cells


def test_a_file_adds_numbers(tmp_path):
    path = write(tmp_path / "mine.json", TABLE, {**TABLE, "rows": [{"method": "grid", "keep": 0.5, "drawn": 80.5}]})
    *shipped, first, second = read_published(path)
    assert shipped == read_published()
    assert (first.method, first.keep, first.metric, first.value) == ("unpruned", None, "right", 90.0)
    assert (second.method, second.keep, second.benchmark, second.value) == ("grid", 0.5, "drawn", 80.5)
    assert second.origin == ("made up", "none", "https://example.org", "made up")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rows": [{"method": "grid", "drawn": 1}]}, "table 2 has no 'keep'"),
        ({"rows": [{"method": "grid", "keep": 1, "other": 1}]}, "table 2 has no 'other'"),
        ({"rows": [{"method": "grid", "keep": None, "drawn": 1}]}, "null is for unpruned"),
        ({"rows": [{"method": "unpruned", "keep": 3, "drawn": 1}]}, "null is for unpruned"),
        ({"rows": [{"method": "grid", "keep": 1, "drawn": "61.9"}]}, "drawn of grid @ 1 is no number"),
        ({"rows": [{"method": "grid", "keep": 1, "drawn": True}]}, "drawn of grid @ 1 is no number"),
        ({"rows": [3]}, "table 2: "),
        ({"source": ""}, "table 2: source is no text"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, change, says):
    path = write(tmp_path / "mine.json", TABLE, {**TABLE, **change})
    with pytest.raises(InputError, match=rf"mine.json is no file of published numbers \(.*{says}.*docs/reproduce.md"):
        read_published(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tables": 3}', "[" * 100_000, "\x00"])
def test_a_file_of_something_else(tmp_path, text):
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(InputError, match="is no file of published numbers"):
        read_published(tmp_path / "mine.json")
    with pytest.raises(InputError, match="is no file of published numbers"):
        read_published(tmp_path / "none.json")
