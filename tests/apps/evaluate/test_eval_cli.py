"""`foveate eval`, from the words of the command to the files it leaves."""

import json

import pytest
from PIL import Image

from foveate.apps import cli
from foveate.apps.evaluate import runner
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
    assert (results / "table.md").read_text().strip() in out
    assert (results / "plot.png").stat().st_size > 10_000
    assert {(arm["name"], arm["keep"]) for arm in record["arms"]} == {("unpruned", None), ("none", None)} | {
        (name, keep) for name in ("resize", "grid", "random", "divprune", "fastv(layer=1)") for keep in (0.3, 8)
    }
    assert set(record["settings"]["versions"]) >= {"foveate", "torch", "transformers"}
    row = json.loads((results / "answers.jsonl").read_text().splitlines()[0])
    assert set(row) >= {"id", "task", "question", "answer", "expected", "right", "kept", "tokens", "total", "seconds"}


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


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--tasks", "readin"), "'reading'"),
        (("--split", "train"), "dev or test"),
        (("--methods", "zspaprun"), "'zspaprune'"),
        (("--methods", "zspaprune(cor=1)"), "core, relevance"),
        (("--keep", "0"), "keep=0"),
        (("--keep", "half"), "'half'"),
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
