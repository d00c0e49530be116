"""The page of a run, and the page of the documentation."""

import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image

import foveate
from foveate.apps.evaluate import EvalPlan
from foveate.apps.evaluate.page import list_lost, write_page
from foveate.runtime.load import quiet

DOCS = Path(__file__).parents[3] / "docs" / "evaluate.md"


@pytest.fixture(scope="module")
def loaded():
    with quiet():
        return foveate.load("bundled")


def test_the_page_shows_what_was_lost(loaded):
    plan = EvalPlan(methods="divprune", keep="1", tasks="attribute", limit=5, resize=False, prompt_suffix=" <b>")
    run = plan.run(loaded)
    page = write_page(plan, loaded, run)
    lost = {arm: rows for arm, rows in list_lost(run.rows).items() if arm != "none"}
    assert lost  # one token is not enough
    for arm, rows in lost.items():
        assert f"{arm}: {len(rows)} lost" in page
        assert rows[0]["question"].removesuffix(" <b>") + " &lt;b&gt;" in page
    files = [base64.b64decode(data) for data in re.findall(r"data:image/\w+;base64,([^\"]+)", page)]
    assert len(files) == 1 + sum(map(len, lost.values()))  # the plot first
    for file in files:
        with Image.open(io.BytesIO(file)) as image:
            assert min(image.size) > 100
    assert "<script" not in page
    assert "5 questions (attribute 5)." in page
    assert "(too few)" in page
    assert write_page(plan, loaded, run, plot=False).count("data:image/png") == 0


def test_the_page_names_what_lost_none_and_how_many_are_shown(loaded):
    plan = EvalPlan(methods="divprune", keep="576,1", tasks="reading", limit=8, resize=False)
    run = plan.run(loaded)
    page, lost = write_page(plan, loaded, run, plot=False), list_lost(run.rows)
    assert len(lost["divprune @ 1"]) > 5
    assert f"divprune @ 1: {len(lost['divprune @ 1'])} lost, the first 5 of them" in page
    (without,) = re.findall("No question was lost: (.*?)[.]</p>", page)
    assert "divprune @ 576" in without.split("; ")
    assert not set(without.split("; ")) & set(lost)


def test_lost_is_what_the_unpruned_model_scores_higher():
    def row(arm, name, right):
        return {"arm": arm, "name": arm, "id": name, "right": right}

    rows = [row("unpruned", "a", 0.5), row("unpruned", "b", False)]
    rows += [row("grid", "a", 0.4), row("grid", "b", False), row("divprune", "a", 0.5), row("divprune", "b", True)]
    assert list_lost(rows) == {"grid": [rows[2]]}


def test_the_snippet_of_the_documentation(capsys):
    (snippet,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    with quiet():
        exec(compile(snippet, str(DOCS), "exec"), {})
    assert "(too few)" in capsys.readouterr().out
