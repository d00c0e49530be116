"""The user's own questions, line by line."""

import json

import pytest
from PIL import Image

from foveate.apps.evaluate.data import read_data
from foveate.errors import InputError
from foveate.runtime import video
from videos import write_video


def test_own_data(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    good = {"image": "a.png", "question": "what is it?", "answer": "a square"}
    lines = [
        json.dumps(good),
        "{not json",
        json.dumps({**good, "image": "missing.png"}),
        json.dumps({**good, "image": "broken.png"}),
        json.dumps({**good, "question": " "}),
        json.dumps({"image": "a.png", "question": "?"}),
        "[1]",
        "",
        json.dumps({**good, "id": "line-1"}),
        json.dumps({**good, "id": "x", "task": "shapes", "answer": ["square", 4]}),
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(lines))
    examples, skipped = read_data(path)
    assert [(e.id, e.task, e.answers) for e in examples] == [
        ("line-1", "data", ("a square",)),
        ("x", "shapes", ("square", "4")),
    ]
    assert [int(line.split()[1]) for line in skipped] == [2, 3, 4, 5, 6, 7, 9]
    assert len(read_data(path, limit=1)[0]) == 1


@pytest.mark.parametrize("text", ["", "{}", None])
def test_data_without_a_question(tmp_path, text):
    path = tmp_path / "questions.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError) as raised:
        read_data(path)
    assert "questions.jsonl" in str(raised.value)


def write_lines(folder, *lines):
    path = folder / "questions.jsonl"
    path.write_text("\n".join(json.dumps({"question": "?", "answer": "a", **line}) for line in lines))
    return path


def test_clips(tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'foveate[video]'")
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    write_video(tmp_path / "a.mp4", [0, 1, 2, 3])
    lines = [
        {"image": "a.png"}, {"video": "a.mp4"}, {"images": ["a.png", "a.png"], "videos": ["a.mp4"]},
        {"video": "no.mp4"}, {"video": "broken.mp4"}, {"video": "a.mp4", "videos": ["a.mp4"]}, {"videos": []},
        {"video": 3}, {},
    ]  # fmt: skip
    examples, skipped = read_data(write_lines(tmp_path, *lines), max_frames=2)
    assert {example.modality for example in examples} == {"media"}
    shown = [example.image() for example in examples]
    assert [[type(each) is list for each in one] for one in shown] == [[False], [True], [False, False, True]]
    assert [seconds for seconds, _ in shown[1][0]] == [0, 3]
    assert [line.split(": ", 1)[1].split()[0] for line in skipped] == [
        "There", str(tmp_path / "broken.mp4"), "it", "'video'", "'video'", "'image'",
    ]  # fmt: skip


def test_clips_without_pyav(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(video, "import_late", missing)
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"foveate\[video\]"):
        read_data(write_lines(tmp_path, {"image": "a.png"}, {"video": "a.mp4"}))
