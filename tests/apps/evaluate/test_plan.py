"""A plan from Python: rows and figures, and a run that grows without answering a question twice."""

import json
from collections import Counter

import pytest
from PIL import Image

from foveate.apps.evaluate import EvalPlan, runner
from foveate.apps.results import RUN
from foveate.errors import InputError
from foveate.runtime.load import load, quiet
from tiny import tiny_folder

PLAN = {"methods": "divprune", "keep": "0.3", "tasks": "counting", "limit": 2, "max_new_tokens": 2, "resize": False}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    with quiet():
        return load(str(tiny_folder("llava", tmp_path_factory.mktemp("llava"))))


@pytest.fixture
def answered(monkeypatch):
    """How many questions each arm answered."""
    counts, stock = Counter(), runner._answer

    def count(arm, batch, metric):
        counts[arm.label] += len(batch.examples)
        return stock(arm, batch, metric)

    monkeypatch.setattr(runner, "_answer", count)
    return counts


def timeless(rows):
    return sorted((row["arm"], row["id"], row["answer"], row["kept"], row["right"]) for row in rows)


def test_rows_and_figures(loaded):
    run = EvalPlan(**PLAN).run(loaded)
    assert len(run.rows) == 2 * len(run.summary.arms) + 2 * 2  # three seeds of random are one
    assert run.summary.questions == {"counting": 2}


@pytest.mark.parametrize(
    "more", [{"keep": "4"}, {"methods": "zspaprune(core=0.6, relevance=word_max)"}, {"tasks": "chart"}, {"limit": 5}]
)
def test_a_run_grows_and_its_rows_stay(loaded, tmp_path, answered, more):
    EvalPlan(**PLAN).run(loaded, out=tmp_path)
    before, first = (tmp_path / "answers.jsonl").read_text(), answered.total()
    plan = EvalPlan.extending(tmp_path, **more)
    with pytest.raises(InputError, match="another"):
        plan.run(loaded, out=tmp_path)
    run = plan.run(loaded, out=tmp_path, extend=True)
    after = (tmp_path / "answers.jsonl").read_text()
    assert after.startswith(before)
    assert len(after.splitlines()) == len(run.rows) == answered.total() > first
    assert timeless(run.rows) == timeless(plan.run(loaded).rows)
    again = answered.total()
    assert plan.run(loaded, out=tmp_path).rows == run.rows  # the record of the run has grown with it
    assert answered.total() == again


def test_an_extension_has_all_of_the_run(loaded, tmp_path):
    EvalPlan(**PLAN, metric="contains", prompt_suffix=" One word.").run(loaded, out=tmp_path)
    plan = EvalPlan.extending(tmp_path, methods="divprune,zspaprune(core=0.6, relevance=word_max)", keep="0.1", limit=1)
    assert plan.methods == "divprune,zspaprune(core=0.6, relevance=word_max)"
    assert (plan.keep, plan.limit, plan.metric, plan.prompt_suffix) == ("0.3,0.1", 2, "contains", " One word.")


def test_what_is_no_extension(loaded, tmp_path):
    for text in (None, "{", "[]", "{}"):
        if text is not None:
            (tmp_path / RUN).write_text(text)
        with pytest.raises(InputError, match="holds no run to extend"):
            EvalPlan.extending(tmp_path, keep="0.1")
    (tmp_path / RUN).unlink()
    EvalPlan(**PLAN).run(loaded, out=tmp_path)
    header, answers = (tmp_path / RUN).read_text(), (tmp_path / "answers.jsonl").read_text()
    with pytest.raises(InputError, match="another metric"):
        EvalPlan.extending(tmp_path, metric="contains").run(loaded, out=tmp_path, extend=True)
    with pytest.raises(InputError, match="no answer of this run"):  # a plan without the rows that are there
        EvalPlan(**{**PLAN, "methods": "mmtok"}).run(loaded, out=tmp_path, extend=True)
    assert ((tmp_path / RUN).read_text(), (tmp_path / "answers.jsonl").read_text()) == (header, answers)


def test_the_metric_and_the_prompt(loaded, tmp_path):
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.png")
    line = {"image": "a.png", "question": "what color is it?", "answer": ["red"] * 10}
    (tmp_path / "mine.jsonl").write_text(json.dumps(line))
    plan = EvalPlan(**{**PLAN, "tasks": "all"}, data=tmp_path / "mine.jsonl", prompt_prefix="Look: ", metric="anls")
    run = plan.run(loaded)
    assert {row["question"] for row in run.rows} == {"Look: what color is it?"}
    assert all(0 <= row["right"] <= 1 for row in run.rows)
    scored = EvalPlan(**{**vars(plan), "metric": "vqa"}).run(loaded)
    assert [row["answer"] for row in scored.rows] == [row["answer"] for row in run.rows]


def test_several_images_of_a_question(loaded, tmp_path):
    for name in ("red", "blue"):
        Image.new("RGB", (60, 40), name).save(tmp_path / f"{name}.png")
    lines = [
        {"images": ["red.png", "blue.png"], "question": "what comes first?", "answer": "red"},
        {"image": "blue.png", "question": "what color?", "answer": "blue"},
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run = EvalPlan(**PLAN, data=tmp_path / "mine.jsonl").run(loaded)
    totals = {row["id"]: row["total"] for row in run.rows}
    assert totals["line-1"] == 2 * totals["line-2"] > 0
    pruned = [row["tokens"] for row in run.rows if row["arm"] == "divprune @ 0.3"]
    assert pruned[0] == 2 * pruned[1] > 0
