"""`foveate reproduce`, from the words of the command to the report, on local images and made-up published numbers."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from foveate.apps import cli
from foveate.apps.evaluate import sample_examples
from foveate.apps.results import open_folder
from local_task import remember_stock_tasks, write_task
from tiny import tiny_folder

QUESTIONS = 4
MADE_UP = {"paper": "made up for this test", "source": "https://example.org", "table": "none", "protocol": "made up"}
PUBLISHED = {
    "tables": [
        {
            **MADE_UP, "model": "bundled", "metrics": {"drawn": "f1"},
            "rows": [
                {"method": "unpruned", "keep": None, "drawn": 99.5}, {"method": "grid", "keep": 64, "drawn": 12.5},
            ],
        }
    ]
}  # fmt: skip


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", *map(str, arguments)])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def test_without_lmms_eval(capsys, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "foveate.integrations.lmms_run", raising=False)
    monkeypatch.delattr("foveate.integrations.lmms_run", raising=False)
    monkeypatch.setitem(sys.modules, "lmms_eval", None)
    code, out, err = run(capsys, "--model", "bundled", "--out", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("foveate: foveate reproduce runs lmms-eval, which cannot be imported (")
    assert err.endswith("pip install 'foveate[lmms]'.\n")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    pytest.importorskip("lmms_eval", reason="lmms-eval is not installed: pip install 'foveate[lmms]'")
    folder = tmp_path_factory.mktemp("task")
    (folder / "published.json").write_text(json.dumps(PUBLISHED))
    return write_task(folder, sample_examples(["existence"], "dev", QUESTIONS))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    if importlib.util.find_spec("lmms_eval"):
        remember_stock_tasks(monkeypatch)


@pytest.fixture
def options(task):
    return [
        "--model", "bundled", "--benchmarks", "drawn", "--include-path", task, "--methods", "grid,fastv", "--keep",
        "64,0.1", "--batch", QUESTIONS,
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def compute_f1(samples):
    """Straight from the definition."""
    answered, expected = ([sample[key] == "yes" for sample in samples] for key in ("answer", "expected"))
    both = sum(a and b for a, b in zip(answered, expected, strict=True))
    return 2 * both / max(1, sum(answered) + sum(expected))


def test_a_report(capsys, tmp_path, task, options):
    out = tmp_path / "out"
    code, printed, err = run(capsys, *options, "--published", task / "published.json", "--out", out, "--json")
    assert code == 0
    assert "metrics print" not in printed
    record = json.loads(printed.splitlines()[-1])
    assert json.loads((out / "report.json").read_text()) == record
    assert (out / "report.md").read_text().strip() in printed
    assert {"foveate", "transformers", "lmms-eval", "datasets"} < set(record["settings"]["versions"])
    assert "--benchmarks drawn --methods grid,fastv --keep 64,0.1" in record["command"]
    scores = {(score["method"], score["keep"]): score for score in record["scores"]}
    assert scores.keys() == {("unpruned", None), ("grid", 64), ("grid", 0.1), ("fastv", 64), ("fastv", 0.1)}
    for (method, keep), score in scores.items():
        place = out / "answers" / (method if keep is None else f"{method} @ {keep}")
        samples = [json.loads(line) for line in (place / "drawn.jsonl").read_text().splitlines()]
        assert len(samples) == score["questions"] == QUESTIONS
        assert all({"doc", "target", "filtered_resps", "token_counts", "right"} < set(sample) for sample in samples)
        pairs = [sample["f1"] for sample in samples]
        assert score["value"] == pytest.approx(100 * compute_f1(pairs))
        assert score["low"] <= score["value"] <= score["high"]
        (published,) = [row["drawn"] for row in PUBLISHED["tables"][0]["rows"] if row["keep"] == keep] or [None]
        if method == "fastv" or published is None:
            assert score["published"] is score["difference"] is None
        else:
            assert score["published"]["value"] == published
            spread = [score[name] - published for name in ("value", "low", "high")]
            assert score["difference"] == pytest.approx(spread)
        results = json.loads((place / "drawn.json").read_text())
        assert set(results["metrics"]) == {"right", "f1", "each_once"}
        assert results["metrics"]["each_once"] == {"value": 1.0, "low": None, "high": None}
        assert results["metrics"]["right"]["value"] == np.mean([sample["right"] for sample in samples])
        tokens = [count["input_tokens"] for sample in samples for count in sample["token_counts"]]
        assert results["input_tokens"] == pytest.approx(np.mean(tokens), abs=1e-3)
    whole, kept = (
        json.loads((out / "answers" / name / "drawn.json").read_text()) for name in ("unpruned", "grid @ 64")
    )
    assert whole["input_tokens"] - kept["input_tokens"] == 576 - 64
    assert "made up for this test, none, https://example.org: made up." in printed
    assert "Note: " not in err


@pytest.mark.heavy
def test_it_answers_as_the_command_of_lmms_eval(capsys, tmp_path, task):
    """The second arm of a run too, whose task is loaded already."""
    options = [
        "--model",
        "bundled",
        "--benchmarks",
        "drawn",
        "--include-path",
        task,
        "--methods",
        "divprune",
        "--keep",
        20,
    ]
    assert run(capsys, *options, "--out", tmp_path / "out")[0] == 0
    command = [
        sys.executable, "-m", "lmms_eval", "--model", "foveate", "--model_args",
        "pretrained=bundled,keep=20,method=divprune", "--tasks", "drawn", "--include_path", str(task),
        "--output_path", str(tmp_path / "theirs"), "--log_samples",
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    (theirs,) = (tmp_path / "theirs").rglob("*samples_drawn.jsonl")
    ours = tmp_path / "out" / "answers" / "divprune @ 20" / "drawn.jsonl"
    names = ("doc_id", "target", "doc_hash", "right", "f1")
    first, second = ([json.loads(line) for line in path.read_text().splitlines()] for path in (ours, theirs))
    assert [[row[name] for name in names] for row in first] == [[row[name] for name in names] for row in second]


def strip_times(out):
    """All that the run left about answers, without the seconds."""
    left = {}
    for path in sorted((out / "answers").rglob("*.json*")):
        text = path.read_text()
        left[path.relative_to(out)] = {**json.loads(text), "seconds": None} if path.suffix == ".json" else text
    return left


@pytest.mark.heavy
def test_a_killed_run_goes_on_and_answers_nothing_again(capsys, tmp_path, options):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    program = [sys.executable, "-c", "from foveate.apps.cli import main; main()"]
    process = subprocess.Popen(
        [*program, "reproduce", *map(str, options), "--out", str(killed)], start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    patience = time.monotonic() + 500
    while not len(done := list(killed.rglob("answers/*/*.json"))) > 1:
        assert process.poll() is None
        assert time.monotonic() < patience
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "report.md").exists()
    stamps = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in done}
    assert len(stamps) < 5
    assert run(capsys, *options, "--out", killed)[0] == 0
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in done} == stamps
    assert run(capsys, *options, "--out", whole)[0] == 0
    assert strip_times(killed) == strip_times(whole)
    assert len(strip_times(whole)) == 10
    assert (killed / "report.md").read_text() == (whole / "report.md").read_text()


def test_what_is_answered_is_not_answered_again(capsys, tmp_path, task, monkeypatch):
    """More arms answer no old ones again; a run with nothing left loads no model."""
    from foveate.integrations import lmms_run
    from foveate.runtime import load

    options = ["--model", tiny_folder("llava", tmp_path / "model"), "--benchmarks", "drawn", "--include-path", task]
    options += ["--out", tmp_path / "out", "--max-new-tokens", 2, "--limit", 2]
    answered, run_task = [], lmms_run.run_task
    monkeypatch.setattr(
        lmms_run, "run_task", lambda *args, **more: answered.append(more["out"].name) or run_task(*args, **more)
    )
    assert run(capsys, *options, "--methods", "grid", "--keep", "4")[0] == 0
    code, printed, err = run(capsys, *options, "--methods", "random,grid", "--keep", "4,2")
    assert code == 0
    assert answered == ["unpruned", "grid @ 4", "random @ 4", "random @ 2", "grid @ 2"]
    assert "Note: There are no published numbers for " in err
    assert "Note: Only the first 2 questions of each benchmark: published numbers are of all questions." in printed
    monkeypatch.setattr(load, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    assert run(capsys, *options, "--methods", "random,grid", "--keep", "4,2")[:2] == (0, printed)
    assert len(answered) == 5
    place = tmp_path / "out" / "answers" / "grid @ 4" / "drawn.json"
    for text in ("", "{}", "[]"):
        place.write_text(text)
        code, _, err = run(capsys, *options, "--methods", "random,grid", "--keep", "4,2")
        assert (code, err.count("\n")) == (2, 1)
        assert f"{place} is damaged" in err
        assert err.endswith("delete it, and it is answered again.\n")


def test_all_methods_that_the_model_can_run(capsys, tmp_path, task):
    """A Qwen has no [CLS] token, this one two layers: methods that need more are left out, or refused by name."""
    options = [
        "--model",
        tiny_folder("qwen2_5_vl", tmp_path / "model"),
        "--benchmarks",
        "drawn",
        "--include-path",
        task,
    ]
    options += ["--max-new-tokens", 1, "--limit", 1, "--keep", "4"]
    code, printed, err = run(capsys, *options, "--methods", "all", "--out", tmp_path / "out", "--json")
    assert code == 0
    names = {score["method"] for score in json.loads(printed.splitlines()[-1])["scores"]}
    assert {"unpruned", "foveate", "grid", "divprune", "cdpruner", "mmtok", "glance"} <= names
    assert names.isdisjoint({"visionzip", "vispruner", "prumerge", "holov", "fastv"})
    assert "Note: visionzip was left out: " in err
    code, _, err = run(capsys, *options, "--methods", "grid,visionzip", "--out", tmp_path / "named")
    assert (code, err.count("\n")) == (2, 1)
    assert "visionzip" in err
    assert not (tmp_path / "named" / "answers").exists()


def test_what_cannot_be_run(capsys, tmp_path, task):
    model = tiny_folder("llava", tmp_path / "model")
    other, locked = tmp_path / "other", tmp_path / "locked"
    other.mkdir()
    (other / "run.json").write_text(json.dumps({"model": "bundled", "batch": 16, "split": "dev"}))
    (tmp_path / "lost" / "answers").mkdir(parents=True)
    for more, says in (
        (["--benchmarks", "drwan"], "lmms-eval has no task 'drwan': did you mean drawn"),
        (["--benchmarks", "mmbench"], "mmbench is a group of lmms-eval's tasks: name the tasks"),
        (["--benchmarks", "drawn,drawn"], "name each benchmark once"),
        (["--methods", "gird"], "There is no method 'gird'"),
        (["--keep", "1.5"], "keep"),
        (["--published", tmp_path / "none.json"], "none.json is no file of published numbers"),
        (["--out", other], f"{other} holds a run with another application (None, not 'foveate reproduce')"),
        (["--out", tmp_path / "lost"], "holds answers without their run.json"),
        (["--model", "nobody/nothing"], "nobody/nothing"),
        (["--benchmarks", "pope"], "lmms-eval cannot load pope ("),
        (["--include-path", tmp_path / "nowhere"], "There is no folder"),
    ):
        options = ["--model", model, "--include-path", task, "--methods", "grid", "--keep", 4, "--benchmarks", "drawn"]
        code, out, err = run(capsys, *options, "--limit", 1, "--out", tmp_path / "out", *more)
        assert (code, out, err.rstrip("\n").count("\n")) == (2, "", 0), err
        assert says in err
        assert err.startswith("foveate: ")
    with open_folder(locked):
        code, _, err = run(capsys, *options, "--out", locked)
    assert (code, "Another run writes to" in err) == (2, True)
