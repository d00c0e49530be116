"""An address where a file is meant is refused with both of its slashes, before a model is loaded."""

import json

import pytest

from foveate.apps.batch.formats import open_source
from foveate.apps.evaluate.data import read_data
from foveate.errors import InputError

ADDRESS = "http://127.0.0.1:9/scene.png"


@pytest.mark.parametrize(
    "arguments",
    [
        ["chat", ADDRESS], ["chat", "scene.png", ADDRESS], ["watch", ADDRESS, "what?"], ["eval", "--data", ADDRESS],
        ["eval", "--out", ADDRESS], ["calibrate", "--out", "a.json", "--data", ADDRESS], ["audit", "--policy", ADDRESS],
        ["batch", ADDRESS, "--out", "answers"], ["reproduce", "--published", ADDRESS],
    ],
)  # fmt: skip
def test_commands(refuse, monkeypatch, arguments):
    monkeypatch.setattr("foveate.runtime.load.load", lambda *_, **__: pytest.fail("a model was loaded"))
    assert f"{ADDRESS} is an address" in refuse(*arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["eval", "--model", "."], "holds no config.json"), (["reproduce", "--model", "."], "foveate: "),
        (["audit", "--policy", "none.json"], "none.json"),
    ],
)  # fmt: skip
def test_a_default_folder_is_no_address(refuse, monkeypatch, tmp_path, arguments, text):
    """Without --out, Typer gives its parser the default, a path: the refusal is of something else."""
    monkeypatch.chdir(tmp_path)
    says = refuse(*arguments)
    assert text in says
    assert "address" not in says


def test_what_is_typed_in_a_chat(run, scene, monkeypatch, folder):
    lines = iter([f"/see {ADDRESS}", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    assert f"{ADDRESS} is an address" in run("chat", scene, "--model", folder)[2]


def test_lines_of_a_file(tmp_path):
    path = tmp_path / "mine.jsonl"
    for kind in ("image", "video"):
        path.write_text(json.dumps({kind: ADDRESS, "question": "what?", "answer": "a"}))
        with pytest.raises(InputError, match=ADDRESS):
            read_data(path)
    with pytest.raises(InputError, match=ADDRESS):
        open_source(path).parse({"image": ADDRESS, "question": "what?"})
