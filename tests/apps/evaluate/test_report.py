import json
import sys

import numpy as np
import pytest
from PIL import Image

from foveate.apps.evaluate.report import check_plot, draw_plot, summarize
from foveate.apps.evaluate.statistics import compute_p
from foveate.apps.evaluate.tables import format_overview, format_tables
from foveate.errors import InputError


def rows(**arms):
    """{arm: {task: marks}}; an arm is `name`, or `name_keep`, or `name_keep_seed`."""
    out = []
    for label, tasks in arms.items():
        name, keep, seed = [*label.split("_"), None, None][:3]
        for task, marks in tasks.items():
            for i, mark in enumerate(marks):
                row = {"id": f"{task}-{i}", "task": task, "arm": label, "name": name, "right": bool(mark), "total": 100}
                out.append({**row, "keep": keep and int(keep), "tokens": int(keep or 100), "seed": seed})
    return out


def some():
    return rows(
        unpruned={"color": [1, 1, 1, 0] * 5, "any": [1, 1] * 5},
        none={"color": [0, 1, 0, 0] * 5, "any": [1, 1] * 5},
        random_10_0={"color": [1, 0, 0, 0] * 5, "any": [1, 0] * 5},
        random_10_1={"color": [1, 1, 0, 0] * 5, "any": [1, 1] * 5},
        grid_10={"color": [1, 1, 0, 0] * 5, "any": [0, 1] * 5},
        grid_20={"color": [1, 1, 1, 0] * 5, "any": [1, 1] * 5},
    )


def test_figures():
    summary = summarize(some())
    assert summary.questions == {"color": 20, "any": 10}
    by = {(arm.name, arm.keep): arm for arm in summary.arms}
    grid = by["grid", 10]
    assert grid.accuracy.value == pytest.approx(15 / 30)
    assert grid.tasks["color"].value == 0.5
    assert grid.relative.value == pytest.approx((0.5 / 0.75 + 0.5) / 2)
    assert grid.difference.value == pytest.approx(-10 / 30)
    assert grid.accuracy.low < 0.5 < grid.accuracy.high
    seeds = by["random", 10]
    assert seeds.tasks["color"].value == pytest.approx(7.5 / 20)
    assert seeds.tokens == 10
    assert by["unpruned", None].relative.value == 1
    assert by["grid", 20].p == 1.0
    whole = np.array([1.0, 1, 1, 0] * 5 + [1, 1] * 5)
    assert grid.p == pytest.approx(compute_p(np.array([1.0, 1, 0, 0] * 5 + [0, 1] * 5), whole))
    assert summary.blind == ["any"]


def test_every_method_is_paired_with_every_other_at_its_budget():
    summary = summarize(some())
    assert {(pair.keep, *sorted((pair.first, pair.second))) for pair in summary.pairs} == {(10, "grid", "random")}
    assert len(summarize([*some(), *rows(best_20={"color": [1] * 20, "any": [1] * 10})]).pairs) == 2


def test_an_unfinished_run_is_no_result():
    with pytest.raises(InputError, match="let the run finish"):
        summarize(some()[:-1])


def test_the_table():
    table = format_tables(summarize(some()))
    assert table.count("| keep ") == 4  # two overviews and one a budget
    for name in ("unpruned", "none", "random", "grid"):
        assert f"| {name} |" in table
    assert "any †" in table
    assert "any: answered nearly as well without the image" in table
    widths = [line.count("|") for line in table.splitlines() if line.startswith("|")]
    assert sorted(set(widths)) == [4, 8]
    assert "| grid | 0.583 (" in format_overview(summarize(some()), "relative")
    assert "| grid | 0.500 (" in format_overview(summarize(some()), "accuracy")
    assert "| none | 0.667 (" in format_overview(summarize(some()), "relative")


def test_a_model_that_is_never_right():
    summary = summarize(rows(unpruned={"color": [0, 0]}, none={"color": [0, 0]}, grid_10={"color": [1, 0]}))
    assert "| - |" in format_tables(summary)
    assert "NaN" not in json.dumps(summary.record())


def test_the_plot(tmp_path):
    draw_plot(summarize(some()), tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.format == "PNG"
        assert image.width > 900
        colors = {color for _, color in image.convert("RGB").getcolors(1 << 24)}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colors
    draw_plot(summarize(some()), tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "plot.png").read_bytes()


@pytest.mark.parametrize("n", [1, 3, 7, 49])
@pytest.mark.parametrize("mark", [0, 1])
def test_the_plot_of_a_policy(tmp_path, n, mark):
    """A point beside the lines, also where all answers are right or wrong, and where there is no line."""
    whole = rows(unpruned={"color": [1] * n}, none={"color": [0] * n})
    policy = [{**row, "keep": "auto", "tokens": 40} for row in rows(foveate={"color": [mark] * n})]
    sizes = []
    for more in (rows(grid_10={"color": [1] * n}), []):
        summary = summarize([*whole, *more, *policy])
        draw_plot(summary, tmp_path / "plot.png")
        sizes.append((tmp_path / "plot.png").stat().st_size)
        assert "| keep auto | tokens |" in format_tables(summary)
    assert min(sizes) > 10_000


def test_without_matplotlib(monkeypatch):
    check_plot()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'foveate\[eval\]'"):
        check_plot()
