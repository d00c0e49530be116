"""Arms whose encoder sees some of the tiles."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import foveate
from foveate.apps import cli
from foveate.apps.encoder import EncoderOptions, parse_encoders
from foveate.apps.evaluate import evaluate, summarize
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.encoded import EncodedEvalArm
from foveate.apps.evaluate.examples import EvalExample
from foveate.apps.evaluate.report import draw_plot
from foveate.apps.evaluate.settings import make_arms, parse_budgets, parse_methods
from foveate.apps.evaluate.tables import format_tables
from foveate.errors import FoveateWarning, InputError, ModelError
from foveate.method import resolve
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import load, quiet
from policies import save_policy, ship
from tiled import tiled_folder
from viz.golden.write import make_scene

SIZES = [(96, 32), (90, 90), (30, 30)]  # internvl: three tiles, four, and one without an overview
SOME = EncoderOptions(0.6)


@pytest.fixture(scope="module", params=["internvl", "llava_next"])
def loaded(request, tmp_path_factory):
    with quiet():
        return load(str(tiled_folder(request.param, tmp_path_factory.mktemp(request.param))))


@pytest.fixture(scope="module")
def examples():
    def draw(size):
        return lambda: make_scene().resize(size, Image.Resampling.NEAREST)

    return [
        EvalExample(f"e{number}", "tiles", "what color is the star" + "?" * number, ("red",), draw(size))
        for number, size in enumerate(SIZES)
    ]


def make(keeps="0.4", encode="0.6", methods="foveate", **more):
    fixed, policies = parse_budgets(keeps)
    return make_arms(parse_methods(methods), fixed, policies=policies, encoders=parse_encoders(encode), **more)


def test_every_method_has_an_arm_more_at_each_budget():
    arms = make("0.4,3", "0.6,0.4", "foveate,divprune", resize=False)
    labels = [arm.label for arm in arms]
    assert len(set(labels)) == len(labels)
    encoded = [arm for arm in arms if isinstance(arm, EncodedEvalArm)]
    assert [arm.label for arm in encoded] == [
        f"{name} @ {keep}, encode {share}"
        for keep in (0.4, 3) for name in ("foveate", "foveate, blind", "divprune") for share in (0.6, 0.4)
    ]  # fmt: skip
    assert {arm.name for arm in encoded} == {
        f"{name}, encode {share}" for name in ("foveate", "foveate, blind", "divprune") for share in (0.6, 0.4)
    }
    plain = make_arms(parse_methods("foveate,divprune"), [0.4, 3], resize=False)
    assert (
        [arm for arm in arms if arm not in encoded] == plain == make("0.4,3", "1.0", "foveate,divprune", resize=False)
    )


def test_baselines_have_one_where_they_are_named():
    labels = [arm.label for arm in make(methods="foveate,grid,random") if isinstance(arm, EncodedEvalArm)]
    assert labels == [
        "grid @ 0.4, encode 0.6", *(f"random @ 0.4, encode 0.6, seed {seed}" for seed in (0, 1, 2)),
        "foveate @ 0.4, encode 0.6", "foveate, blind @ 0.4, encode 0.6",
    ]  # fmt: skip


def test_what_cannot_have_an_arm():
    with pytest.raises(InputError, match=r"encode 0\.6 is not for a policy.*add a number to --keep, or leave"):
        make("auto")
    with pytest.raises(InputError, match=r"encode 0\.6 is not for fastv, which sees the whole image"):
        make(methods="foveate,fastv")
    assert [arm.label for arm in make("0.4,auto", methods="divprune", resize=False)][-3:] == [
        "divprune @ 0.4", "divprune @ 0.4, encode 0.6", "foveate @ auto"
    ]  # fmt: skip


@torch.no_grad()
def test_its_answers_are_those_of_the_library(loaded, examples):
    method = resolve("foveate")
    arm = EncodedEvalArm("foveate, encode 0.6", 0.4, method=method, encoder=SOME, max_new_tokens=4)
    batch = EvalBatch(loaded, examples, [method])
    with pytest.warns(FoveateWarning, match="one tile was encoded whole") if is_single(loaded) else quiet():
        result = arm.answer(batch)
    for n, example in enumerate(examples):
        inputs = make_inputs(loaded, [example.image()], [example.question])
        short = foveate.prune_inputs(loaded.model, inputs, keep=0.4, encode=0.6)
        (item,) = short.report.items
        assert result.answers[n] == generate_answers(loaded, short, 4)[0]
        assert (result.kept[n], result.counts[n]) == (item.kept.tolist(), len(item.kept))
        assert result.measures[n] == {"encoded": round(item.encoded_share, 4)}
    assert min(row["encoded"] for row in result.measures) < 1
    assert result.seconds > 0
    assert "encoded" not in vars(batch)  # the whole encoder did not run


def is_single(loaded):
    return loaded.model.config.model_type == "internvl"


@pytest.mark.filterwarnings("ignore:resize was left out", "ignore:An image of one tile")
def test_a_run_says_what_was_encoded_and_goes_on(loaded, examples, tmp_path):
    arms = make(max_new_tokens=2)
    rows = evaluate(loaded, examples, arms, batch=2, out=tmp_path / "out")
    assert {row["arm"] for row in rows if "encoded" in row} == {
        "foveate @ 0.4, encode 0.6", "foveate, blind @ 0.4, encode 0.6"
    }  # fmt: skip
    assert all(0 < row["encoded"] <= 1 for row in rows if "encoded" in row)
    log = tmp_path / "out" / "answers.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:5]))
    again = evaluate(loaded, examples, arms, batch=2, out=tmp_path / "out")
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in rows]

    summary = summarize(rows)
    shares = {arm.name: arm.encoded for arm in summary.arms}
    own = [row["encoded"] for row in rows if row["name"] == "foveate, encode 0.6"]
    assert shares["foveate, encode 0.6"] == pytest.approx(sum(own) / len(own))
    assert shares["foveate"] is shares["unpruned"] is None
    assert json.loads(json.dumps(summary.record()))["arms"][-1]["encoded"] == pytest.approx(
        shares["foveate, blind, encode 0.6"]
    )
    pairs = {(pair.first, pair.second) for pair in summary.pairs}
    assert ("foveate", "foveate, encode 0.6") in pairs
    table = format_tables(summary)
    heads, line = ([cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()
                   if row.startswith(("| keep 0.4", "| foveate, encode 0.6 | ")) and row.count("|") > 4)  # fmt: skip
    assert (heads[2], line[2]) == ("parts encoded", f"{sum(own) / len(own):.0%}")
    assert len(heads) == len(line)
    draw_plot(summary, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_tables_without_it_have_no_column_more(loaded, examples):
    rows = evaluate(loaded, examples[:1], make(encode="1.0", max_new_tokens=1, resize=False))
    assert "parts encoded" not in format_tables(summarize(rows))
    assert not any("encoded" in row for row in rows)


def test_a_model_that_sees_images_whole_is_refused_before_the_first_question(bundled, examples):
    with pytest.raises(ModelError, match=r"encode=0\.6 encodes a part .* images of llava models whole"):
        evaluate(bundled, examples, make())


def test_the_command(loaded, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_scene(90, 90).save("image.png")
    (tmp_path / "q.jsonl").write_text(json.dumps({"image": "image.png", "question": "what?", "answer": "red"}) + "\n")
    (tmp_path / "shipped").mkdir()
    ship(monkeypatch, tmp_path / "shipped")
    path = save_policy(loaded.model, tmp_path)
    command = ["eval", "--model", loaded.name, "--methods", "foveate", "--data", "q.jsonl", "--keep", f"0.4,{path}"]
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--encode", "0.6", "--no-plot", "--json", "--out", "out", "--max-new-tokens", "1"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    record = json.loads(out.splitlines()[-1])
    assert record["settings"]["encode"] == "0.6"
    names = [(arm["name"], arm["keep"], arm["encoded"]) for arm in record["arms"]]
    assert ("foveate, encode 0.6", 0.4, 0.6) in names
    assert ("foveate", str(path), None) in names  # the policy's arm is whole
    assert "| foveate, encode 0.6 |" in Path("out/table.md").read_text()
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--encode", "0.4", "--no-plot", "--out", "out", "--max-new-tokens", "1"])
    assert stop.value.code == 2
    assert "holds a run with another encode ('0.6', not '0.4')" in capsys.readouterr().err
