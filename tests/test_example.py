"""examples/sign.png: the question that the documentation shows is answered by the default alone, as it says."""

import json
import shlex
from pathlib import Path

import pytest
from PIL import Image, ImageChops

import foveate
from foveate.apps import cli
from foveate.method.random import Random
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.world.drawing import draw_scene
from foveate.world.suite import sample_cases

ROOT = Path(__file__).parents[1]
START, README = ((ROOT / name).read_text() for name in ("docs/index.md", "README.md"))
EXAMPLE = json.loads((ROOT / "benchmarks" / "results" / "example.json").read_text())
COMMAND = "foveate ask examples/sign.png"


def find_command(text):
    (command,) = [line for line in text.splitlines() if line.startswith(COMMAND)]
    return shlex.split(command)[1:]


def test_it_is_the_drawn_scene_of_the_record():
    case = sample_cases("dev", "crowd", EXAMPLE["tried"])[-1]
    assert (case.id, case.question.text, case.question.answer) == (EXAMPLE["id"], EXAMPLE["question"], EXAMPLE["truth"])
    with Image.open(ROOT / "examples" / "sign.png") as image:
        assert ImageChops.difference(image, draw_scene(case.scene)).getbbox() is None


def test_the_command_of_the_documentation_answers_as_it_says(bundled, monkeypatch, tmp_path, capsys):
    """Right unpruned and with the question, wrong with each method that does not read it."""
    command = find_command(START)
    assert find_command(README) == command[: command.index("--overlay")]
    path = ROOT / command[1]
    monkeypatch.setattr("foveate.runtime.load.load", lambda *_, **__: bundled)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["ask", str(path), *command[2:], "--repeat", "1", "--json"])
    assert not stop.value.code
    assert (tmp_path / "compared.png").is_file()
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    answers = {each["method"]: each["answer"] for each in record["others"]}
    assert command[2] == EXAMPLE["question"]
    assert record["answer"] == record["answer_unpruned"] == EXAMPLE["truth"]
    assert answers.keys() == {"divprune", "grid", "random"}
    assert EXAMPLE["truth"] not in answers.values()
    assert not any(row.prompt_aware for row in foveate.methods() if row.name in answers)
    assert all(f"`{name}` (`{answer}`" in START for name, answer in answers.items())


def test_random_tokens_do_not_suffice_with_any_of_the_seeds(bundled):
    """And the record holds what each of them answered."""
    with Image.open(ROOT / "examples" / "sign.png") as image:
        inputs = make_inputs(bundled, [image], [EXAMPLE["question"]])
    for seed in range(6):
        with foveate.pruning(bundled.model, keep=EXAMPLE["keep"], method=Random(seed)):
            (answer,) = generate_answers(bundled, inputs, 8)
        assert answer == EXAMPLE["answers"][f"random, seed {seed}"] != EXAMPLE["truth"]


def test_the_averages_beside_it_are_those_of_the_tables():
    accuracy = (ROOT / "benchmarks" / "results" / "bundled" / "table.md").read_text().split("\n\n")[2]
    rows = {row.split("|")[1].strip(): row.split("|") for row in accuracy.splitlines()}
    assert rows["keep"][3].strip() == "0.111"
    (sentence,) = [line for line in START.splitlines() if line.startswith("On average the difference is smaller")]
    for name in ("unpruned", "foveate", "divprune", "grid", "random"):
        assert rows[name][3].split()[0].removeprefix("0") in sentence, name
