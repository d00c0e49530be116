"""What `foveate doctor` reads from prompts of a model's own processor."""

from pathlib import Path

import pytest

from foveate.apps.doctor import check_prompts
from foveate.runtime.load import load
from tiled import tiled_folder
from tiny import tiny_folder


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("idefics3", ["112 visual tokens (no grid, 7 tiles)"] * 2),  # it scales up first
        ("internvl", ["112 visual tokens (no grid, 7 tiles)", "64 visual tokens (no grid, 4 tiles)"]),
    ],
)
def test_tiles_are_counted(name, figures, tmp_path):
    results = list(check_prompts(load(str(tiled_folder(name, tmp_path)))))
    assert [result.status for result in results] == ["holds"] * 4
    for result, figure in zip(results[::2], figures, strict=True):
        assert result.figure == f"{figure}, question read as 'What color is the star?'"
    assert all("max error" in result.figure for result in results[1::2])


def test_a_template_that_changes_the_question(tmp_path):
    folder = tiny_folder("llava", tmp_path)
    path = Path(folder) / "chat_template.jinja"
    template = path.read_text()
    path.write_text(template.replace("part['text']", "part['text'][:-6]"))
    assert path.read_text() != template
    read, law, *_ = check_prompts(load(str(folder)))
    assert (read.status, law.status) == ("violated", "holds")
    assert r"question read as 'USER: \nWhat color is the ASSISTANT:' Nothing tells the user's turns" in read.figure


def test_a_model_without_a_template(tmp_path):
    folder = tiny_folder("llava", tmp_path)
    (Path(folder) / "chat_template.jinja").unlink()
    results = list(check_prompts(load(str(folder))))
    assert [result.status for result in results] == ["error", "error"]
    assert "chat template" in results[0].figure
