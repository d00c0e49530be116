"""`foveate calibrate` and `foveate audit`, from the words of the command to the policy, on a tiny model."""

import json
import re

import pytest
from PIL import Image

from apps.batch.drawn import write_lines
from foveate.policy import Policy
from foveate.runtime.load import load
from policies import SAFE, save_policy

COUNT = 8  # what a loss of 0.5 with a confidence of 0.9 needs
PROMISE = ("--loss", 0.5, "--confidence", 0.9, "--budgets", "0.25,0.5", "--max-new-tokens", 2, "--batch", 4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file of questions without answers, of two kinds."""
    path = tmp_path_factory.mktemp("data")
    rows = []
    for n in range(COUNT):
        Image.effect_noise((64, 48 + n), 20 + 10 * n).convert("RGB").save(path / f"{n}.png")
        question = f"what color is it{' or not' * (n % 3)}?"
        rows.append({"image": f"{n}.png", "question": question, "task": f"kind {n % 2}"})
    return write_lines(path / "mine.jsonl", rows)


@pytest.fixture
def calibrate(run, folder, data, tmp_path):
    def call(*options, data=data, out=tmp_path / "mine.policy.json"):
        return run("calibrate", "--model", folder, "--data", data, "--out", out, *PROMISE, *options)

    return call


# -- from questions to an answer -----------------------------------------------------------------------------------


def test_calibrate_then_audit_then_ask(calibrate, run, folder, scene, data, tmp_path):
    path = tmp_path / "mine.policy.json"
    code, out, err = calibrate()
    assert (code, err) == (0, "")
    assert f"{path}: at most 50 % of the answers change, with 90 % confidence, on questions like these {COUNT}." in out
    policy = Policy.load(path)
    assert (policy.method, policy.budgets) == ("foveate", (0.25, 0.5))
    assert (policy.promise.loss, policy.promise.confidence) == (0.5, 0.9)

    audit = ("audit", "--policy", path, "--model", folder, "--data", data, "--folder", tmp_path / "audit", "--json")
    code, out, err = run(*audit, "--max-new-tokens", 2)
    assert code == 0
    assert all(line.startswith("Note: The policy's promise may not hold here (") for line in err.splitlines())
    record = json.loads(out.splitlines()[-1])
    assert [row["kind"] for row in record["rows"]] == ["kind 0", "kind 1", "all"]
    every = record["rows"][-1]
    assert (every["questions"], sum(row["changed"] for row in record["rows"][:-1])) == (COUNT, every["changed"])
    answers = [json.loads(line) for line in (tmp_path / "audit" / "answers.jsonl").read_text().splitlines()]
    by_arm = [{row["id"]: row for row in answers if row["arm"] == arm} for arm in ("unpruned", "policy")]
    changed = [by_arm[0][name]["answer"] != by_arm[1][name]["answer"] for name in by_arm[0]]
    assert every["changed"] == sum(changed)
    assert every["keep"] == pytest.approx(sum(row["tokens"] / 16 for row in by_arm[1].values()) / COUNT)

    shown = run(*audit, "--max-new-tokens", 2)  # everything is answered
    assert shown[1] == out
    code, out, _ = run("ask", scene, "what?", "--model", folder, "--policy", path, "--json", "--max-new-tokens", 1)
    record = json.loads(out.splitlines()[-1])
    assert (code, record["kept"] in (4, 8, 16), len(record["reasons"])) == (0, True, 1)


def test_a_promise_on_right_answers_needs_answers(calibrate, refuse, run, folder, data, tmp_path):
    assert "answer" in refuse(
        "calibrate", "--model", folder, "--data", data, "--out", tmp_path / "no.json", *PROMISE, "--metric", "right"
    )
    rows = [{**json.loads(line), "answer": "red"} for line in data.read_text().splitlines()]
    answered = write_lines(data.parent / "answered.jsonl", rows)
    path = tmp_path / "right.policy.json"
    code, out, _ = calibrate("--metric", "right", data=answered, out=path)
    assert code == 0
    assert "at most 50 % of the questions lose a right answer" in out
    assert Policy.load(path).metric == "right"
    audit = ("audit", "--policy", path, "--model", folder, "--folder", tmp_path / "audited", "--max-new-tokens", 2)
    code, out, _ = run(*audit, "--data", answered)
    assert code == 0
    assert "right answers were lost" in out
    assert "answer" in refuse(*audit, "--data", data)


def test_the_bundled_model_on_its_own_questions(run, scene, tmp_path):
    """Without --data: calibrated on the development split, audited on the test split."""
    path, tasks = tmp_path / "mine.policy.json", ("--tasks", "existence,attribute", "--limit", COUNT // 2)
    options = (*tasks, "--loss", 0.5, "--confidence", 0.9, "--budgets", "0.1,0.5")
    code, out, err = run("calibrate", "--out", path, *options)
    assert (code, err) == (0, "")
    assert f"questions like these {COUNT}." in out
    code, out, _ = run("audit", "--policy", path, *tasks, "--folder", tmp_path / "audit", "--json")
    rows = json.loads(out.splitlines()[-1])["rows"]
    assert (code, [(row["kind"], row["questions"]) for row in rows]) == (
        0, [("existence", COUNT // 2), ("attribute", COUNT // 2), ("all", COUNT)],
    )  # fmt: skip
    ids = {json.loads(line)["id"].split("-")[0] for line in (tmp_path / "audit/answers.jsonl").read_text().splitlines()}
    assert ids == {"test"}
    code, out, _ = run("ask", scene, "what color is the star?", "--policy", path, "--json", "--max-new-tokens", 2)
    record = json.loads(out.splitlines()[-1])
    assert (code, record["kept"] in (58, 288, 576), len(record["reasons"])) == (0, True, 1)


def test_a_calibration_that_was_killed_goes_on(calibrate, tmp_path):
    assert calibrate()[0] == 0
    first = (tmp_path / "mine.policy.json").read_text()
    answers = tmp_path / "mine.policy.json.answers" / "answers.jsonl"
    lines = answers.read_text().splitlines(keepends=True)
    answers.write_text("".join(lines[: len(lines) // 2]))
    assert calibrate()[0] == 0
    assert (tmp_path / "mine.policy.json").read_text() == first
    code, _, err = calibrate("--max-new-tokens", 3)
    assert (code, "holds a run with another max_new_tokens" in err) == (2, True)


@pytest.mark.parametrize("command", ["calibrate", "audit"])
def test_the_help_says_that_answers_are_greedy(run, command):
    code, out, _ = run(command, "--help")
    assert (code, "greedy" in out) == (0, True)


def test_there_is_no_sampling(refuse, tmp_path):
    for command in (["calibrate", "--out", tmp_path / "p.json"], ["audit", "--policy", tmp_path / "p.json"]):
        assert "No such option: --temperature" in refuse(*command, "--temperature", 0.7)


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--loss", "0.01"], f"{COUNT} questions are too few to promise a loss of 0.01 .*: give 4.. at least"),
        (["--confidence", "0.999"], f"{COUNT} questions are too few .*: give 20 at least, better 80"),
        (["--limit", "7"], "7 questions are too few .*: give 8 at least"),
        *((["--loss", loss], f"loss={float(loss)} is no share: give") for loss in ("0", "1", "-0.1", "1.5", "nan")),
        *((["--confidence", value], f"confidence={float(value)} is no share") for value in ("0", "1", "95", "inf")),
        (["--budgets", "0.5,0.25"], "not ascending"),
        (["--budgets", "0.25,0.25"], "not ascending"),
        (["--budgets", "0.25,1.0"], "no share below 1"),
        (["--budgets", "0.25,1.5"], "not a share"),
        (["--budgets", "half"], "--budgets 'half' is no number"),
        (["--budgets", "auto"], "'auto' is no number"),
        (["--method", "clever"], "There is no method 'clever'"),
        (["--method", "fastv"], "needs the running model"),
    ],
)
def test_promises_that_cannot_be_made(calibrate, tmp_path, monkeypatch, options, text):
    monkeypatch.setattr("foveate.runtime.load.load", None)
    code, out, err = calibrate(*options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("foveate: ")
    assert re.search(text, err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([], "has no usable question: it is empty"),
        ([{"question": "what?"}] * 9, "'image' is missing: name a file"),
        ([{"image": "none.png", "question": "what?"}], "There is no image"),
        ([{"image": "mine.jsonl", "question": "what?"}], "no image that Pillow can read"),
        (["no JSON\n"], "is no JSON object"),
    ],
)
@pytest.mark.parametrize("command", ["calibrate", "audit"])
def test_data_without_images(run, folder, model, tmp_path, monkeypatch, command, lines, text):
    path = write_lines(tmp_path / "mine.jsonl", lines)
    policy = save_policy(model, tmp_path)
    monkeypatch.setattr("foveate.runtime.load.load", None)
    own = ("--out", tmp_path / "new.json") if command == "calibrate" else ("--policy", policy)
    code, _, err = run(command, "--model", folder, "--data", path, *own)
    assert code == 2, err
    assert "Traceback" not in err
    assert re.search(text, err)


@pytest.fixture(scope="module")
def model(folder):
    return load(folder).model


def test_data_that_cannot_be_read(refuse, model, tmp_path):
    policy = save_policy(model, tmp_path)
    for command in (["calibrate", "--out", tmp_path / "p.json"], ["audit", "--policy", policy]):
        assert "none.jsonl cannot be read" in refuse(*command, "--data", tmp_path / "none.jsonl")
        assert "There is no task 'plane'" in refuse(*command, "--tasks", "plane")


def test_an_audit_needs_a_policy_of_the_model(run, folder, data, bundled, tmp_path):
    path = save_policy(bundled.model, tmp_path)
    audit = ("audit", "--model", folder, "--data", data, "--folder", tmp_path / "audit", "--policy")
    code, _, err = run(*audit, path)
    assert (code, "calibrated on another model (llava) or other weights" in err) == (2, True)
    (tmp_path / "no.json").write_text("[]")
    for name, says in (("no.json", "is no policy of this version"), ("none.json", "cannot be read as a policy")):
        code, _, err = run(*audit, tmp_path / name)
        assert (code, f"{name} {says}" in err) == (2, True)


def test_an_audit_of_a_method_that_reads_the_tower(run, folder, model, data, tmp_path):
    """VisionZip needs the attention of the encoder's [CLS] token."""
    path = save_policy(model, tmp_path, method="visionzip")
    options = ("--model", folder, "--data", data, "--folder", tmp_path / "audit", "--max-new-tokens", 1, "--json")
    code, out, err = run("audit", "--policy", path, *options)
    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["rows"][-1]["keep"] == 0.25


def test_a_policy_that_keeps_all_changes_nothing(run, folder, model, data, tmp_path):
    path = save_policy(model, tmp_path, price=SAFE)
    options = ("--model", folder, "--data", data, "--folder", tmp_path / "audit", "--max-new-tokens", 4, "--json")
    code, out, _ = run("audit", "--policy", path, *options)
    every = json.loads(out.splitlines()[-1])["rows"][-1]
    assert (code, every["changed"], every["keep"]) == (0, 0, 1.0)
    code, _, err = run("audit", "--policy", save_policy(model, tmp_path), *options)
    assert (code, "holds a run with another policy" in err) == (2, True)


def test_a_policy_that_cannot_be_written(calibrate, tmp_path):
    (tmp_path / "folder").mkdir()
    code, _, err = calibrate("--folder", tmp_path / "answers", out=tmp_path / "folder")
    assert (code, "cannot be written" in err) == (2, True)
