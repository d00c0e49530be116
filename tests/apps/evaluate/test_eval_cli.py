"""`foveate eval`, from the words of the command to the files it leaves."""

import json
import signal

import pytest
from PIL import Image

import foveate
from foveate.apps import cli
from foveate.apps.evaluate import runner, sample_examples
from foveate.apps.results import open_folder
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import load
from policies import SAFE, make_policy, save_policy, ship
from tiled import tiled_folder
from tiny import tiny_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_folder("qwen2_5_vl", tmp_path_factory.mktemp("qwen")))


@pytest.fixture
def run(capsys, tmp_path):
    def call(*arguments, out=tmp_path / "results"):
        with pytest.raises(SystemExit) as stop:
            cli.main(["eval", "--out", str(out), "--max-new-tokens", "2", *map(str, arguments)])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return call


def test_the_world(run, folder, tmp_path):
    code, out, _ = run(
        "--model", folder, "--methods", "divprune,fastv(layer=1)", "--keep", "0.3,8", "--limit", 1, "--json"
    )
    assert code == 0
    record = json.loads(out.splitlines()[-1])
    results = tmp_path / "results"
    assert json.loads((results / "summary.json").read_text()) == record
    assert f"Tables with every task and budget are in {results / 'table.md'}." in " ".join(out.split())
    assert "relative to the unpruned model" in out
    assert "| --" not in out  # Markdown is for the file
    assert "| keep 8 | tokens |" in (results / "table.md").read_text()
    assert (results / "plot.png").stat().st_size > 10_000
    assert {(arm["name"], arm["keep"]) for arm in record["arms"]} == {("unpruned", None), ("none", None)} | {
        (name, keep) for name in ("resize", "grid", "random", "divprune", "fastv(layer=1)") for keep in (0.3, 8)
    }
    assert set(record["settings"]["versions"]) >= {"foveate", "torch", "transformers"}
    row = json.loads((results / "answers.jsonl").read_text().splitlines()[0])
    assert set(row) >= {"id", "task", "question", "answer", "expected", "right", "kept", "tokens", "total", "seconds"}


def test_a_run_is_extended(run, folder, tmp_path):
    options = ("--model", folder, "--tasks", "counting", "--limit", 1, "--no-resize", "--no-plot")
    assert run(*options, "--methods", "divprune", "--keep", "0.3")[0] == 0
    results = tmp_path / "results"
    before = (results / "answers.jsonl").read_text()
    code, _, err = run("--model", folder, "--keep", "8")
    assert (code, "another" in err) == (2, True)
    code, _, err = run("--model", folder, "--extend", "--keep", "8", "--metric", "contains")
    assert (code, "another metric" in err) == (2, True)
    assert run("--model", folder, "--extend", "--keep", "8", "--no-plot", "--html")[0] == 0
    assert (results / "answers.jsonl").read_text().startswith(before)
    settings = json.loads((results / "summary.json").read_text())["settings"]
    assert (settings["methods"], settings["keep"], settings["limit"]) == ("divprune", "0.3,8", 1)
    assert "<h1>" in (results / "report.html").read_text()
    code, _, err = run("--model", folder, "--extend", "--keep", "8", out=tmp_path / "other")
    assert (code, "holds no run to extend" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--metric", "bleu"), "There is no metric 'bleu'"),
        (("--tolerance", "0.1"), "for --metric numeric"),
        (("--metric", "vqa", "--tasks", "counting"), "needs 4 references or more"),
    ],
)
def test_metrics_that_cannot_be(run, options, text):
    code, _, err = run("--model", "/no/such/model", *options)
    assert code == 2
    assert text in " ".join(err.split())


def test_own_data(run, folder, tmp_path):
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.png")
    lines = ['{"image": "a.png", "question": "what color is it?", "answer": "red"}', "{", '{"image": "b.png"}']
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    code, out, err = run(
        "--model", folder, "--methods", "grid", "--keep", "0.5", "--data", tmp_path / "mine.jsonl", "--json"
    )
    assert code == 0
    record = json.loads(out.splitlines()[-1])
    assert record["questions"] == {"data": 1}
    assert [line.split(" of ")[0] for line in record["skipped"]] == ["Line 2", "Line 3"]
    assert err.count("was skipped") == 2
    assert "Line 2" in (tmp_path / "results" / "table.md").read_text()


def test_images_of_several_tiles(run, tmp_path):
    folder = tiled_folder("idefics3", tmp_path / "model")
    for name, size in (("wide.png", (96, 32)), ("square.png", (64, 64))):
        Image.new("RGB", size, "red").save(tmp_path / name)
    lines = [json.dumps({"image": n, "question": "what", "answer": "red"}) for n in ("wide.png", "square.png")]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    options = ("--methods", "divprune", "--keep", "3", "--data", tmp_path / "mine.jsonl", "--json", "--no-plot")
    code, out, err = run("--model", folder, *options)
    assert code == 0
    record = json.loads(out.splitlines()[-1])
    (note,) = record["notes"]
    assert note.startswith("resize was left out: 'idefics3' models do not take smaller images")
    assert f"Note: {note}\n" in err
    assert note in (tmp_path / "results" / "table.md").read_text()
    tokens = {arm["name"]: arm["tokens"] for arm in record["arms"]}
    assert tokens == {"unpruned": (64 + 160) / 2, "none": 0, "grid": 3, "random": 3, "divprune": 3}


POLICIES = ("--methods", "divprune", "--tasks", "counting,reading", "--limit", 2, "--batch", 2, "--no-resize", "--json")


def test_a_policy_is_an_arm(run, folder, tmp_path, monkeypatch):
    """It answers as `prune_inputs` with the policy does, and its figures are in every table."""
    loaded = load(folder)
    path = save_policy(loaded.model, tmp_path)
    ship(monkeypatch, tmp_path, make_policy(loaded.model, price=SAFE))
    code, out, _ = run("--model", folder, *POLICIES, "--keep", f"0.3, auto,{path}")
    assert code == 0
    record, results = json.loads(out.splitlines()[-1]), tmp_path / "results"
    arms = {(arm["name"], arm["keep"]): arm for arm in record["arms"]}
    assert arms.keys() == {
        ("unpruned", None), ("none", None), ("foveate", "auto"), ("foveate", str(path)),
        *((name, 0.3) for name in ("grid", "random", "divprune")),
    }  # fmt: skip
    assert arms["foveate", "auto"]["tokens"] == arms["unpruned", None]["tokens"]
    table = (results / "table.md").read_text()
    assert f"| keep | 0.3 | auto | {path} |" in table
    assert "\n| keep auto | tokens |" in table
    assert (results / "plot.png").stat().st_size > 10_000
    rows = [json.loads(line) for line in (results / "answers.jsonl").read_text().splitlines()]
    chosen = {row["id"]: row for row in rows if row["arm"] == f"foveate @ {path}"}
    examples = sample_examples(["counting", "reading"], "dev", 2)
    assert chosen.keys() == {example.id for example in examples}
    for example in examples:
        inputs = make_inputs(loaded, [example.image()], [example.question])
        short = foveate.prune_inputs(loaded.model, inputs, keep=foveate.Policy.load(path))
        assert chosen[example.id]["kept"] == short.report.items[0].kept.tolist()
        assert chosen[example.id]["answer"] == generate_answers(loaded, short, 2)[0]


def test_what_is_unlike_the_calibration_is_a_note(run, folder, tmp_path):
    path = save_policy(load(folder).model, tmp_path, low=1e8)
    code, out, err = run("--model", folder, *POLICIES, "--no-plot", "--keep", path)
    notes = json.loads(out.splitlines()[-1])["notes"]
    assert (code, len(notes) > 0) == (0, True)
    for note in notes:
        assert "promise may not hold here" in note
        assert f"Note: {note}\n" in err


def test_a_run_with_a_policy_goes_on_with_that_policy_alone(run, folder, tmp_path, monkeypatch):
    model = load(folder).model
    path = save_policy(model, tmp_path)
    options = ("--model", folder, *POLICIES, "--no-plot", "--keep", path)
    assert run(*options)[0] == 0
    answers = tmp_path / "results" / "answers.jsonl"
    complete = answers.read_text()
    answers.write_text(complete[: complete.index("\n") + 1])
    assert run(*options)[0] == 0
    rows, again = (
        [{**json.loads(line), "seconds": 0} for line in text.splitlines()] for text in (complete, answers.read_text())
    )
    assert sorted(map(str, again)) == sorted(map(str, rows))
    monkeypatch.setattr(runner, "_answer", None)
    assert run(*options)[0] == 0  # nothing is left to do
    save_policy(model, tmp_path, price=SAFE)
    code, _, err = run(*options)
    assert (code, "holds a run with another policies" in err) == (2, True)


@pytest.mark.parametrize("number", [0, 1])
def test_every_policy_is_checked_before_the_first_question(run, folder, tmp_path, monkeypatch, number):
    """Of several policies each one, not only the last."""
    monkeypatch.setattr(runner, "_answer", None)
    paths = [save_policy(load(folder).model, tmp_path), tmp_path / "other.json"]
    record = json.loads(paths[0].read_text())
    record["model"]["size"] += 1
    paths[1].write_text(json.dumps(record))
    keep = ",".join(str(paths[n]) for n in (number, 1 - number))
    code, _, err = run("--model", folder, *POLICIES, "--keep", keep)
    assert (code, "calibrated on another model" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--tasks", "readin"), "'reading'"),
        (("--split", "train"), "dev or test"),
        (("--methods", "zspaprun"), "'zspaprune'"),
        (("--methods", "zspaprune(cor=1)"), "core, relevance"),
        (("--keep", "0"), "keep=0"),
        (("--keep", "half"), "'half'"),
        (("--keep", "0.1,auto,auto"), "names a policy twice"),
        (("--keep", "auto"), "none comes with it: make one with foveate calibrate"),
        (("--keep", "0.1,auto", "--methods", "divprune"), "none comes with it: make one with foveate calibrate"),
        (("--keep", "0.1,none.json"), "none.json cannot be read as a policy"),
        (("--data", "missing.jsonl"), "missing.jsonl"),
        (("--methods", "visionzip"), "visionzip"),
    ],
)
def test_errors_come_before_the_first_question(run, folder, monkeypatch, tmp_path, options, text):
    monkeypatch.setattr(runner, "_answer", None)
    code, _, err = run("--model", folder, "--limit", 1, *options)
    assert code == 2
    assert err.startswith("foveate: ")
    assert text in err
    assert not (tmp_path / "results" / "answers.jsonl").exists()


def test_a_file_in_the_place_of_the_folder(run, folder, tmp_path):
    (tmp_path / "file").write_text("x")
    code, _, err = run("--model", folder, "--limit", 1, out=tmp_path / "file")
    assert (code, "another folder" in err) == (2, True)


SMALL = ("--methods", "grid", "--keep", "0.5", "--tasks", "counting", "--limit", 1, "--no-resize")


@pytest.mark.parametrize("name", ["summary.json", "table.md", "plot.png", "run.json"])
def test_results_that_cannot_be_written(run, folder, tmp_path, name):
    """The answers stay, the table is printed, and the same command again goes on."""
    (tmp_path / "results" / name).mkdir(parents=True)
    code, out, err = run("--model", folder, *SMALL)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("foveate: ")
    assert "relative to the" in out or name == "run.json"
    assert "table.md." not in out
    (tmp_path / "results" / name).rmdir()
    assert run("--model", folder, *SMALL)[0] == 0
    assert {path.suffix for path in (tmp_path / "results").iterdir()} == {".json", ".jsonl", ".md", ".png"}


def test_a_folder_in_use_is_refused_before_the_model_is_loaded(run, tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.runtime.load.load", None)
    with open_folder(tmp_path / "results"):
        code, out, err = run(*SMALL)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "Another run writes to" in err


def test_other_data_under_the_same_name(run, folder, tmp_path):
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.png")
    Image.new("RGB", (60, 40), "blue").save(tmp_path / "b.png")
    line = {"image": "a.png", "question": "what color is it?", "answer": "red"}
    options = ("--model", folder, *SMALL, "--data", tmp_path / "mine.jsonl", "--no-plot")
    (tmp_path / "mine.jsonl").write_text(json.dumps(line))
    assert run(*options)[0] == 0
    (tmp_path / "mine.jsonl").write_text(json.dumps({**line, "image": "b.png"}))
    code, _, err = run(*options)
    assert (code, "another data_sha256" in err) == (2, True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_says_what_remains(run, folder, tmp_path, monkeypatch, number, code):
    left, answer = iter(range(2)), runner._answer

    def interrupt(*arguments):
        if next(left, None) is None:
            signal.raise_signal(number)
        return answer(*arguments)

    before = signal.getsignal(signal.SIGTERM)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in the background
    with monkeypatch.context() as patched:
        patched.setattr(runner, "_answer", interrupt)
        stopped, out, err = run("--model", folder, *SMALL, "--no-plot")
    signal.signal(signal.SIGINT, usual)
    assert (stopped, out) == (code, "")
    assert err.startswith("foveate: Interrupted. Finished answers are in")
    assert signal.getsignal(signal.SIGTERM) is before
    assert len((tmp_path / "results" / "answers.jsonl").read_text().splitlines()) == 2
    assert run("--model", folder, *SMALL, "--no-plot")[0] == 0
